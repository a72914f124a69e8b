/* SPDX-License-Identifier: Apache-2.0 */
/* caes: a compiled function with a real working set. It makes an access log in memory, indexes it
 * by client in a chained hash table, and encrypts part of it with AES-128 in counter mode. About
 * 30 MiB stay in use: the log, the table and its nodes, and the ciphertext. The answer is a hash
 * of all of them, so it does not depend on the boot. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { LOG_BYTES = 18 << 20, SECRET_BYTES = 3 << 20, BUCKETS = 1 << 16 };

struct hit {
	struct hit *next;
	uint32_t client, offset, length;
};

static uint8_t *text, *secret;
static size_t text_bytes;
static struct hit **index_by_client;
static uint64_t seed = 88172645463325252ULL;

static uint32_t random_below(uint32_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 32) % n;
}

static void make_log(void)
{
	static const char *const verb[] = { "GET", "GET", "GET", "POST", "HEAD", "PUT" };
	static const char *const part[] = { "index", "cart", "user", "item", "search", "img", "api", "static", "login" };
	static const char *const agent[] = { "Mozilla/5.0 (X11; Linux x86_64)", "curl/7.88.1", "Mozilla/5.0 (Macintosh)", "bot/2.1" };

	while (text_bytes + 256 < LOG_BYTES) {
		uint32_t client = random_below(20000) * random_below(3);
		text_bytes += (size_t)sprintf((char *)text + text_bytes,
			"10.%u.%u.%u - - [0%u/Jun:%02u:%02u:%02u] \"%s /%s/%s/%u HTTP/1.1\" %u %u \"%s\"\n", client >> 16,
			client >> 8 & 255, client & 255, 1 + random_below(9), random_below(24), random_below(60),
			random_below(60), verb[random_below(6)], part[random_below(9)], part[random_below(9)],
			random_below(10000), random_below(20) ? 200 : 404, random_below(90000), agent[random_below(4)]);
	}
}

static void index_log(void)
{
	for (size_t at = 0; at < text_bytes;) {
		char *field = (char *)text + at + 3;	/* after "10." */
		uint32_t client = (uint32_t)strtoul(field, &field, 10) << 16;
		client |= (uint32_t)strtoul(field + 1, &field, 10) << 8;
		client |= (uint32_t)strtoul(field + 1, &field, 10);
		uint8_t *end = memchr(text + at, '\n', text_bytes - at);
		size_t length = (size_t)(end - (text + at)) + 1;
		struct hit *hit = malloc(sizeof *hit);
		if (!hit)
			abort();
		hit->client = client;
		hit->offset = (uint32_t)at;
		hit->length = (uint32_t)length;
		struct hit **bucket = &index_by_client[hit->client * 2654435761u >> 16];
		hit->next = *bucket;
		*bucket = hit;
		at += length;
	}
}

/* AES-128, straight from FIPS 197, with the S-box and one round table computed at start. */
static uint8_t sbox[256];
static uint32_t round_table[256], round_key[44];

static uint8_t twice(uint8_t x) { return (uint8_t)(x << 1 ^ (x >> 7) * 0x1b); }
static uint32_t rotate(uint32_t x, int n) { return n ? x >> n | x << (32 - n) : x; }

static uint32_t substitute(uint32_t w)
{
	return (uint32_t)sbox[w >> 24] << 24 | (uint32_t)sbox[w >> 16 & 255] << 16 | (uint32_t)sbox[w >> 8 & 255] << 8 | sbox[w & 255];
}

static void aes_start(const uint8_t key[16])
{
	uint8_t p = 1, q = 1;
	do {	/* p runs through the field by times 3, q by its inverse */
		p ^= twice(p);
		q ^= (uint8_t)(q << 1);
		q ^= (uint8_t)(q << 2);
		q ^= (uint8_t)(q << 4);
		q ^= (q >> 7) * 0x09;
		uint8_t s = q;
		for (int i = 1; i < 5; i++)
			s ^= (uint8_t)(q << i | q >> (8 - i));
		sbox[p] = s ^ 0x63;
	} while (p != 1);
	sbox[0] = 0x63;
	for (int i = 0; i < 256; i++) {
		uint8_t s = sbox[i], d = twice(s);
		round_table[i] = (uint32_t)d << 24 | (uint32_t)s << 16 | (uint32_t)s << 8 | (uint32_t)(s ^ d);
	}
	uint8_t constant = 1;
	for (int i = 0; i < 44; i++) {
		if (i < 4) {
			round_key[i] = (uint32_t)key[4 * i] << 24 | (uint32_t)key[4 * i + 1] << 16 | (uint32_t)key[4 * i + 2] << 8 | key[4 * i + 3];
			continue;
		}
		uint32_t w = round_key[i - 1];
		if (i % 4 == 0) {
			w = substitute(rotate(w, 24)) ^ (uint32_t)constant << 24;
			constant = twice(constant);
		}
		round_key[i] = round_key[i - 4] ^ w;
	}
}

static void aes_block(const uint32_t in[4], uint32_t out[4])
{
	uint32_t s[4], t[4];
	for (int i = 0; i < 4; i++)
		s[i] = in[i] ^ round_key[i];
	for (int r = 1; r < 10; r++) {
		for (int i = 0; i < 4; i++)
			t[i] = round_table[s[i] >> 24] ^ rotate(round_table[s[(i + 1) & 3] >> 16 & 255], 8) ^
			       rotate(round_table[s[(i + 2) & 3] >> 8 & 255], 16) ^ rotate(round_table[s[(i + 3) & 3] & 255], 24) ^
			       round_key[4 * r + i];
		memcpy(s, t, sizeof s);
	}
	for (int i = 0; i < 4; i++)
		out[i] = substitute((s[i] & 0xff000000) | (s[(i + 1) & 3] & 0xff0000) | (s[(i + 2) & 3] & 0xff00) | (s[(i + 3) & 3] & 0xff)) ^
			 round_key[40 + i];
}

static void encrypt(void)
{
	for (uint32_t at = 0; at < SECRET_BYTES; at += 16) {
		uint32_t counter[4] = { 0xd0d0, 0, 0, at / 16 }, pad[4];
		aes_block(counter, pad);
		for (int i = 0; i < 16; i++)
			secret[at + (uint32_t)i] = text[at + (uint32_t)i] ^ (uint8_t)(pad[i / 4] >> (24 - i % 4 * 8));
	}
}

static uint64_t mix(uint64_t hash, uint64_t value) { return (hash ^ value) * 0x100000001b3ULL; }

static void answer(char *out, size_t size)
{
	uint64_t hash = 0xcbf29ce484222325ULL;
	unsigned busiest = 0, most = 0, lines = 0;

	memset(secret, 0, SECRET_BYTES);
	encrypt();
	for (size_t i = 0; i < SECRET_BYTES; i += 8) {
		uint64_t v;
		memcpy(&v, secret + i, 8);
		hash = mix(hash, v);
	}
	for (unsigned b = 0; b < BUCKETS; b++) {
		unsigned n = 0;
		for (const struct hit *h = index_by_client[b]; h; h = h->next, n++)
			hash = mix(hash, h->client ^ text[h->offset + h->length - 2]);
		lines += n;
		if (n > most)
			most = n, busiest = b;
	}
	snprintf(out, size, "caes %016llx %u lines, bucket %u has %u", (unsigned long long)hash, lines, busiest, most);
}

int main(void)
{
	static const uint8_t test_key[16] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };
	const uint32_t test_in[4] = { 0x00112233, 0x44556677, 0x8899aabb, 0xccddeeff };
	uint32_t test_out[4];
	aes_start(test_key);
	aes_block(test_in, test_out);
	if (test_out[0] != 0x69c4e0d8 || test_out[3] != 0x70b4c55a)	/* FIPS 197, appendix C.1 */
		return 2;

	text = malloc(LOG_BYTES);
	secret = malloc(SECRET_BYTES);
	index_by_client = calloc(BUCKETS, sizeof *index_by_client);
	if (!text || !secret || !index_by_client)
		return 1;
	make_log();
	index_log();

	struct sockaddr_un name = { .sun_family = AF_UNIX, .sun_path = "/run/function.sock" };
	int listener = socket(AF_UNIX, SOCK_STREAM, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&name, sizeof name) || listen(listener, 4))
		return 1;
	for (;;) {
		char request[4096], line[128], reply[256];
		int client = accept(listener, NULL, NULL);
		if (client < 0)
			continue;
		if (read(client, request, sizeof request) > 0) {
			answer(line, sizeof line);
			int n = snprintf(reply, sizeof reply, "HTTP/1.0 200 OK\r\n\r\n%s\n", line);
			if (write(client, reply, (size_t)n) != n)
				perror("caes: reply");
		}
		close(client);
	}
}
