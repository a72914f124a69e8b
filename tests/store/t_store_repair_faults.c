/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_repair_faults.c - check --repair of stores with a good catalog and damaged files, failed
 * and killed at every call.
 */
#include "store/repairs.h"

static void
flip_plain_page(struct tree *tree)
{
    flip(tree, "seg.00000003", 60);
}

static void
flip_patch(struct tree *tree)
{
    flip(tree, "seg.00000002", 60);
}

static void
flip_segment_header(struct tree *tree)
{
    flip(tree, "seg.00000003", 20);
}

static void
flip_recipe(struct tree *tree)
{
    flip(tree, "snap.0000000000000001", 80);
}

static void
lose_recipe(struct tree *tree)
{
    tree_remove(tree, "snap.0000000000000003");
}

/* They are the last part of its file. */
static void
flip_classes(struct tree *tree)
{
    const char *name = "snap.0000000000000003";
    flip(tree, name, tree_get(tree, name)->size_bytes - 1);
}

static void
flip_root(struct tree *tree)
{
    flip(tree, "root.00000001", 80);
}

static void
lose_root(struct tree *tree)
{
    tree_remove(tree, "root.00000001");
}

static void
flip_much(struct tree *tree)
{
    flip_plain_page(tree);
    flip_recipe(tree);
}

static const struct damage damages[] = {
    {"a damaged plain page", flip_plain_page, "seg.00000003", TRY_ALL},
    {"a damaged patch", flip_patch, "seg.00000002", TRY_THINLY},
    {"a damaged segment header", flip_segment_header, "seg.00000003", TRY_THINLY},
    {"a damaged snapshot file", flip_recipe, "snap.0000000000000001", TRY_THINLY},
    {"damaged page classes", flip_classes, "snap.0000000000000003", TRY_ALL},
    {"a missing snapshot file", lose_recipe, NULL, TRY_KILLS},
    {"a damaged segment and a snapshot file", flip_much, "seg.00000003", TRY_KILLS},
    {"a damaged root file", flip_root, "root.00000001", TRY_ALL, .heals = true},
    {"a missing root file", lose_root, NULL, TRY_KILLS, .heals = true},
};

int
main(void)
{
    begin();
    for (size_t i = 0; i < ARRAY_LEN(damages); i++)
        test_damage(&damages[i]);
    return end();
}
