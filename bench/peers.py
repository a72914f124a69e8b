# SPDX-License-Identifier: Apache-2.0
"""peers.py - who takes part in a comparison: dormouse and the tools it is held against, behind one interface.

A participant keeps images in a folder of its own: new() empties it, put() adds one image, get() writes one
back. Those that can only take the whole set at once implement pack() and unpack(). Settings are the ones that
each tool does best with on guest memory among those that a user would choose; all run on one core.
"""
import re
import shutil

import common


def number_in(text):
    """The first version number in TEXT; one with a dot wins over a lone number."""
    found = re.search(r"\d+(\.\d+)+", text) or re.search(r"\d+", text)
    return found[0] if found else "of unknown version"


class Participant:
    """NAME as shown, TOOL as started, PACKAGE that has it, ACCESS: what one page costs to reach, None when
    only everything can be had."""
    name = tool = package = ""
    access = None

    def __init__(self, bench):
        self.bench = bench
        self.folder = None

    def missing(self):
        """Why it cannot run here, or None."""
        if not shutil.which(self.tool, path=self.bench.environment["PATH"]):
            return f"{self.tool} is not installed (Debian package {self.package})"
        return None

    def version(self):
        return f"{self.tool} {number_in(common.output_of([self.tool, '--version']))}"

    def new(self, label=""):
        self.folder = self.bench.folder(re.sub(r"\W+", "-", self.name) + label)
        return self

    def run(self, *words, folder=None, stdout=None):
        command = words[0] if len(words) == 1 else list(words)
        return common.run(command, folder, self.bench.environment, stdout)

    def stored_bytes(self):
        return common.folder_bytes(self.folder)

    def put(self, name, image):
        raise NotImplementedError

    def get(self, name, target):
        raise NotImplementedError

    def pack(self, images):
        """Put all of IMAGES (name: path) into an empty store."""
        self.new()
        return sum((self.put(name, image) for name, image in images.items()), start=common.Usage(0, 0, 0, 0))

    def unpack(self, images, folder):
        """Get them all back, as FOLDER/NAME."""
        return sum((self.get(name, folder / name) for name in images), start=common.Usage(0, 0, 0, 0))


class Dormouse(Participant):
    name, tool = "dormouse", "dormouse"
    access = "4 KiB page"

    def __init__(self, bench, options=(), name=None):
        super().__init__(bench)
        self.path = bench.args.build / "dormouse"
        self.options = [*bench.args.option, *options]
        self.name = name or self.name

    def missing(self):
        return None if self.path.exists() else f"no program {self.path.name} in {self.path.parent.name}: run make"

    def version(self):
        return f"dormouse {number_in(common.output_of([self.path, '--version']))}"

    def call(self, *words):
        return self.run(self.path, "--store", self.folder, "--quiet", *words)

    def new(self, label=""):
        super().new(label)
        shutil.rmtree(self.folder)
        self.call(*(word for option in self.options for word in ("--option", option)), "init")
        return self

    def put(self, name, image, parent=None):
        return self.call("put", name, image, *(["--parent", parent] if parent else []))

    def get(self, name, target):
        return self.call("get", name, "-o", target)

    def squeeze(self):
        """Re-pack everything: all of it counts as not woken lately."""
        return self.call("gc", "--squeeze", "--older-than", "0s")


class Zstd(Participant):
    """One file an image, no sharing."""
    name, tool, package = "zstd -1", "zstd", "zstd"
    level = "-1"

    def put(self, name, image):
        return self.run("zstd", "-q", "-T1", self.level, image, "-o", self.folder / f"{name}.zst")

    def get(self, name, target):
        return self.run("zstd", "-q", "-d", self.folder / f"{name}.zst", "-o", target)


class ZstdPatch(Participant):
    """zstd told which file the new one resembles: the closest thing to a second boot or a fork."""
    name, tool, package = "zstd -3 --long=31 --patch-from", "zstd", "zstd"

    def patch(self, base, image):
        patch = self.folder / "patch.zst"
        patch.unlink(missing_ok=True)
        usage = self.run("zstd", "-q", "-T1", "-3", "--long=31", f"--patch-from={base}", image, "-o", patch)
        return patch.stat().st_size, usage

    def check(self, base, image):
        """That the patch just made gives back IMAGE."""
        target = self.bench.target / "unpatched"
        self.run("zstd", "-q", "-d", "--long=31", f"--patch-from={base}", self.folder / "patch.zst", "-o", target)
        if not common.same_bytes(image, target):
            raise RuntimeError(f"{self.name}: wrong bytes of {image.parent.name}")
        target.unlink()


class SolidZstd(Participant):
    """One stream of everything with a window over everything: small, and only whole."""
    name, tool, package = "tar | zstd -1 --long=31", "zstd", "zstd"

    def pack(self, images):
        self.new()
        roots = " ".join(f"-C '{image.parent.parent}' '{image.parent.name}/{image.name}'"
                         for image in images.values())
        return self.run(f"tar -cf - {roots} | zstd -q -T1 -1 --long=31 -o '{self.folder}/all.tar.zst'")

    def unpack(self, images, folder):
        usage = self.run(f"zstd -q -d --long=31 -c '{self.folder}/all.tar.zst' | tar -C '{folder}' -xf -")
        for name, image in images.items():
            self.settle(folder / image.parent.name / image.name, folder / name)
        return usage

    @staticmethod
    def settle(inner, target):
        """FOLDER/NAME/mem becomes FOLDER/NAME."""
        aside = target.with_name(target.name + ".part")
        inner.rename(aside)
        if inner.parent.is_dir() and not any(inner.parent.iterdir()):
            inner.parent.rmdir()
        aside.rename(target)


class Borg(Participant):
    name, tool, package = "borg fixed,65536 zstd,3", "borg", "borgbackup"
    access = "64 KiB chunk"

    def __init__(self, bench):
        super().__init__(bench)
        self.base = bench.work / "borg-base"
        bench.environment.update(
            BORG_BASE_DIR=str(self.base), BORG_PASSPHRASE="", BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK="yes",
            BORG_RELOCATED_REPO_ACCESS_IS_OK="yes")

    def new(self, label=""):
        super().new(label)
        shutil.rmtree(self.base, ignore_errors=True)
        self.run("borg", "init", "-e", "none", self.folder / "repo")
        return self

    def put(self, name, image):
        return self.run("borg", "create", "--chunker-params", "fixed,65536", "-C", "zstd,3",
                        f"{self.folder}/repo::{name}", image.name, folder=image.parent)

    def get(self, name, target):
        inner = self.bench.target / "borg"
        inner.mkdir()
        usage = self.run("borg", "extract", "--sparse", f"{self.folder}/repo::{name}", folder=inner)
        next(inner.iterdir()).rename(target)
        inner.rmdir()
        return usage


class Restic(Participant):
    name, tool, package = "restic", "restic", "restic"
    access = "chunk of about 1 MiB"

    def __init__(self, bench):
        super().__init__(bench)
        self.cache = bench.work / "restic-cache"
        bench.environment.update(RESTIC_PASSWORD="bench", RESTIC_CACHE_DIR=str(self.cache), GOMAXPROCS="1")

    def version(self):
        return "restic " + number_in(common.output_of(["restic", "version"]))

    def new(self, label=""):
        super().new(label)
        shutil.rmtree(self.cache, ignore_errors=True)
        self.run("restic", "-q", "-r", self.folder / "repo", "init", "--repository-version", "2")
        return self

    def put(self, name, image):
        return self.run("restic", "-q", "-r", self.folder / "repo", "backup", "--compression", "auto",
                        "--tag", name, image.name, folder=image.parent)

    def get(self, name, target):
        inner = self.bench.target / "restic"
        inner.mkdir()
        usage = self.run("restic", "-q", "-r", self.folder / "repo", "restore", "latest", "--tag", name,
                         "--target", inner)
        next(inner.iterdir()).rename(target)
        inner.rmdir()
        return usage


class Casync(Participant):
    name, tool, package = "casync 64K", "casync", "casync"
    access = "chunk of about 64 KiB"

    def put(self, name, image):
        return self.run("casync", "make", "--chunk-size=64K", f"--store={self.folder}/store.castr",
                        self.folder / f"{name}.caibx", image)

    def get(self, name, target):
        return self.run("casync", "extract", f"--store={self.folder}/store.castr", "--seed-output=no",
                        self.folder / f"{name}.caibx", target)


class Qcow2(Participant):
    name, tool, package = "qcow2 zstd 64K", "qemu-img", "qemu-utils"
    access = "64 KiB cluster"

    def put(self, name, image):
        return self.run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", "-m", "1", "-o",
                        "compression_type=zstd,cluster_size=65536", image, self.folder / f"{name}.qcow2")

    def get(self, name, target):
        return self.run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", "-m", "1",
                        self.folder / f"{name}.qcow2", target)


class FileSystem(Participant):
    """A file system image made of a folder with all images."""

    def pack(self, images):
        self.new()
        source = self.bench.folder("source")
        for name, image in images.items():
            common.link(image, source / name)
        usage = self.make(source)
        shutil.rmtree(source)
        return usage


class Squashfs(FileSystem):
    name, tool, package = "squashfs zstd 64K", "mksquashfs", "squashfs-tools"
    access = "64 KiB block"

    def version(self):
        return "mksquashfs " + number_in(common.output_of(["mksquashfs", "-version"]))

    def make(self, source):
        return self.run("mksquashfs", source, self.folder / "image", "-comp", "zstd", "-Xcompression-level", "3",
                        "-b", "65536", "-processors", "1", "-no-progress", "-quiet", "-noappend")

    def unpack(self, images, folder):
        return self.run("unsquashfs", "-f", "-n", "-q", "-p", "1", "-d", folder, self.folder / "image")


class Erofs(FileSystem):
    name, tool, package = "erofs chunk 4096", "mkfs.erofs", "erofs-utils"
    access = "4 KiB block"

    def version(self):
        return "mkfs.erofs " + number_in(common.output_of(["fsck.erofs", "-V"]))

    def make(self, source):
        return self.run("mkfs.erofs", "--chunksize=4096", self.folder / "image", source)

    def unpack(self, images, folder):
        return self.run("fsck.erofs", f"--extract={folder}", "--overwrite", self.folder / "image")
