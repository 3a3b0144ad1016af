# A C library of two dozen files with a static and a shared form, a command line
# program and tests, built by make with dependencies made by the compiler.
set -eu
mkdir -p p/lib p/test; cd p
put() { cat > "$1"; }
put Makefile <<'M'
CFLAGS = -O2 -g -Wall -Wextra -Werror -fPIC -MMD -MP -Ilib
LIB := $(patsubst %.c,build/%.o,$(wildcard lib/*.c))
TESTS := $(patsubst test/%.c,build/t_%,$(wildcard test/*.c))
all: build/calc build/libcalc.so
build/%.o: %.c | build/lib
	$(CC) $(CFLAGS) -c -o $@ $<
build/libcalc.a: $(LIB)
	$(AR) rcs $@ $^
build/libcalc.so: $(LIB)
	$(CC) -shared -o $@ $^ -lm -lpthread
build/calc: build/main.o build/libcalc.a
	$(CC) -o $@ $^ -lm -lpthread
build/t_%: test/%.c build/libcalc.so
	$(CC) $(CFLAGS) -o $@ $< -Lbuild -lcalc -Wl,-rpath,'$$ORIGIN'
check: all $(TESTS)
	@for t in $(sort $(TESTS)); do $$t && echo "ok $$t" || exit 1; done
	@sh test/run.sh build/calc
build/lib:
	mkdir -p $@
clean:
	rm -rf build
.PHONY: all check clean
.SECONDARY:
-include $(LIB:.o=.d) build/main.d
M
put lib/arena.h <<'C'
#pragma once
#include <stddef.h>
struct arena { struct block *first; size_t total; };
void *arena_get(struct arena *a, size_t n);
void arena_drop(struct arena *a);
C
put lib/arena.c <<'C'
#include "arena.h"
#include <stdlib.h>
struct block { struct block *next; size_t used, size; _Alignas(16) char data[]; };
void *arena_get(struct arena *a, size_t n) {
  n = (n + 15) & ~(size_t)15;
  if (!a->first || a->first->size - a->first->used < n) {
    size_t size = n > 4000 ? n : 4000;
    struct block *b = malloc(sizeof *b + size);
    if (!b) abort();
    b->next = a->first; b->used = 0; b->size = size; a->first = b;
  }
  void *p = a->first->data + a->first->used;
  a->first->used += n; a->total += n;
  return p;
}
void arena_drop(struct arena *a) {
  while (a->first) { struct block *b = a->first; a->first = b->next; free(b); }
  a->total = 0;
}
C
put lib/text.h <<'C'
#pragma once
#include <stddef.h>
struct text { char *s; size_t len, cap; };
void text_add(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void text_free(struct text *t);
C
put lib/text.c <<'C'
#include "text.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
void text_add(struct text *t, const char *fmt, ...) {
  va_list v; va_start(v, fmt); int n = vsnprintf(NULL, 0, fmt, v); va_end(v);
  if (t->len + n + 1 > t->cap) {
    t->cap = (t->len + n + 1) * 2;
    if (!(t->s = realloc(t->s, t->cap))) abort();
  }
  va_start(v, fmt); vsnprintf(t->s + t->len, n + 1, fmt, v); va_end(v);
  t->len += n;
}
void text_free(struct text *t) { free(t->s); t->s = NULL; t->len = t->cap = 0; }
C
put lib/map.h <<'C'
#pragma once
#include <stddef.h>
struct entry { char *key; double value; };
struct map { struct entry *at; size_t count, size; };
double *map_slot(struct map *m, const char *key);
const double *map_find(const struct map *m, const char *key);
void map_free(struct map *m);
C
put lib/map.c <<'C'
#include "map.h"
#include "hash.h"
#include <stdlib.h>
#include <string.h>
static struct entry *probe(struct entry *at, size_t size, const char *key) {
  size_t i = hash_text(key) & (size - 1);
  while (at[i].key && strcmp(at[i].key, key)) i = (i + 1) & (size - 1);
  return at + i;
}
static void grow(struct map *m) {
  size_t size = m->size ? m->size * 2 : 8;
  struct entry *at = calloc(size, sizeof *at);
  if (!at) abort();
  for (size_t i = 0; i < m->size; i++) if (m->at[i].key) *probe(at, size, m->at[i].key) = m->at[i];
  free(m->at); m->at = at; m->size = size;
}
double *map_slot(struct map *m, const char *key) {
  if (m->count * 4 >= m->size * 3) grow(m);
  struct entry *e = probe(m->at, m->size, key);
  if (!e->key) { e->key = strdup(key); m->count++; }
  return &e->value;
}
const double *map_find(const struct map *m, const char *key) {
  if (!m->size) return NULL;
  struct entry *e = probe(m->at, m->size, key);
  return e->key ? &e->value : NULL;
}
void map_free(struct map *m) {
  for (size_t i = 0; i < m->size; i++) free(m->at[i].key);
  free(m->at); memset(m, 0, sizeof *m);
}
C
put lib/hash.h <<'C'
#pragma once
#include <stddef.h>
#include <stdint.h>
uint64_t hash_text(const char *s);
uint32_t hash_adler(const void *p, size_t n);
C
put lib/hash.c <<'C'
#include "hash.h"
uint64_t hash_text(const char *s) {
  uint64_t h = 14695981039346656037u;
  while (*s) h = (h ^ (unsigned char)*s++) * 1099511628211u;
  return h ^ h >> 29;
}
uint32_t hash_adler(const void *p, size_t n) {
  uint32_t a = 1, b = 0;
  for (const unsigned char *c = p; n--; c++) a = (a + *c) % 65521, b = (b + a) % 65521;
  return b << 16 | a;
}
C
put lib/lex.h <<'C'
#pragma once
enum kind { END, NUMBER, NAME, SIGN, BAD };
struct token { enum kind kind; double number; char name[32]; char sign; };
struct lexer { const char *at; struct token now; };
void lex_start(struct lexer *l, const char *s);
void lex_next(struct lexer *l);
C
put lib/lex.c <<'C'
#include "lex.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
void lex_start(struct lexer *l, const char *s) { l->at = s; lex_next(l); }
void lex_next(struct lexer *l) {
  struct token *t = &l->now;
  while (isspace((unsigned char)*l->at)) l->at++;
  char c = *l->at;
  if (!c) { t->kind = END; return; }
  if (isdigit((unsigned char)c) || c == '.') {
    char *end; t->kind = NUMBER; t->number = strtod(l->at, &end);
    if (end == l->at) { t->kind = BAD; return; }
    l->at = end;
  } else if (isalpha((unsigned char)c)) {
    size_t n = 0;
    while (isalnum((unsigned char)l->at[n]) && n < sizeof t->name - 1) n++;
    memcpy(t->name, l->at, n); t->name[n] = 0; t->kind = NAME; l->at += n;
  } else if (strchr("+-*/^()=,%", c)) { t->kind = SIGN; t->sign = c; l->at++; }
  else t->kind = BAD;
}
C
put lib/node.h <<'C'
#pragma once
#include "arena.h"
enum op { NUM, VAR, SET, CALL, NEG, BIN };
struct node { enum op op; char sign; double number; const char *name; struct node *a, *b; };
struct node *node_new(struct arena *a, enum op op);
int node_count(const struct node *n);
C
put lib/node.c <<'C'
#include "node.h"
#include <string.h>
struct node *node_new(struct arena *a, enum op op) {
  struct node *n = arena_get(a, sizeof *n);
  memset(n, 0, sizeof *n); n->op = op;
  return n;
}
int node_count(const struct node *n) { return n ? 1 + node_count(n->a) + node_count(n->b) : 0; }
C
put lib/parse.h <<'C'
#pragma once
#include "node.h"
struct node *parse(struct arena *a, const char *s);
C
put lib/parse.c <<'C'
#include "parse.h"
#include "lex.h"
#include <stdbool.h>
#include <string.h>
struct p { struct lexer l; struct arena *a; bool bad; int depth; };
static struct node *expr(struct p *p, int level);
static bool sign(struct p *p, char c) { return p->l.now.kind == SIGN && p->l.now.sign == c; }
static bool take(struct p *p, char c) { bool r = sign(p, c); if (r) lex_next(&p->l); return r; }
static struct node *atom(struct p *p) {
  struct node *n = node_new(p->a, NUM);
  struct token t = p->l.now;
  if (p->depth++ > 100) p->bad = true;
  if (p->bad) return n;
  lex_next(&p->l);
  if (t.kind == NUMBER) n->number = t.number;
  else if (t.kind == NAME) {
    char *name = arena_get(p->a, strlen(t.name) + 1);
    n->name = strcpy(name, t.name); n->op = VAR;
    if (take(p, '(')) { n->op = CALL; n->a = expr(p, 0); p->bad |= !take(p, ')'); }
    else if (take(p, '=')) { n->op = SET; n->a = expr(p, 0); }
  } else if (t.kind == SIGN && t.sign == '(') { n = expr(p, 0); p->bad |= !take(p, ')'); }
  else if (t.kind == SIGN && t.sign == '-') { n->op = NEG; n->a = expr(p, 2); }
  else p->bad = true;
  p->depth--;
  return n;
}
static struct node *expr(struct p *p, int level) {
  static const char *const signs[] = { "+-", "*/%", "^" };
  if (level == 3) return atom(p);
  struct node *left = expr(p, level + 1);
  while (!p->bad && p->l.now.kind == SIGN && strchr(signs[level], p->l.now.sign)) {
    struct node *n = node_new(p->a, BIN);
    n->sign = p->l.now.sign; n->a = left; lex_next(&p->l);
    n->b = expr(p, level == 2 ? 2 : level + 1); left = n;
  }
  return left;
}
struct node *parse(struct arena *a, const char *s) {
  struct p p = { .a = a };
  lex_start(&p.l, s);
  struct node *n = expr(&p, 0);
  return p.bad || p.l.now.kind != END ? NULL : n;
}
C
put lib/func.h <<'C'
#pragma once
double (*func_find(const char *name))(double);
C
put lib/func.c <<'C'
#include "func.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
struct row { const char *name; double (*f)(double); };
static double fact(double x) { double r = 1; for (; x > 1; x--) r *= x; return r; }
static const struct row rows[] = { { "abs", fabs }, { "cos", cos }, { "exp", exp }, { "fact", fact }, { "ln", log }, { "sin", sin }, { "sqrt", sqrt } };
static int order(const void *k, const void *r) { return strcmp(k, ((const struct row *)r)->name); }
double (*func_find(const char *name))(double) {
  const struct row *r = bsearch(name, rows, sizeof rows / sizeof *rows, sizeof *rows, order);
  return r ? r->f : NULL;
}
C
put lib/eval.h <<'C'
#pragma once
#include "map.h"
#include "node.h"
int eval(struct map *vars, const struct node *n, double *out);
C
put lib/eval.c <<'C'
#include "eval.h"
#include "func.h"
#include <math.h>
int eval(struct map *vars, const struct node *n, double *out) {
  double a = 0, b = 0;
  if ((n->a && eval(vars, n->a, &a)) || (n->b && eval(vars, n->b, &b))) return 1;
  switch (n->op) {
  case NUM: *out = n->number; return 0;
  case NEG: *out = -a; return 0;
  case SET: *map_slot(vars, n->name) = *out = a; return 0;
  case VAR: { const double *v = map_find(vars, n->name); if (v) *out = *v; return !v; }
  case CALL: { double (*f)(double) = func_find(n->name); if (f) *out = f(a); return !f; }
  case BIN:
    switch (n->sign) {
    case '+': *out = a + b; return 0;
    case '-': *out = a - b; return 0;
    case '*': *out = a * b; return 0;
    case '/': *out = a / b; return b == 0;
    case '%': *out = fmod(a, b); return b == 0;
    default: *out = pow(a, b); return 0;
    }
  }
  return 1;
}
C
put lib/heap.h <<'C'
#pragma once
void heap_sort(double *v, int n);
C
put lib/heap.c <<'C'
#include "heap.h"
static void sink(double *v, int i, int n) {
  for (int k; (k = 2 * i + 1) < n; i = k) {
    if (k + 1 < n && v[k + 1] > v[k]) k++;
    if (v[i] >= v[k]) return;
    double t = v[i]; v[i] = v[k]; v[k] = t;
  }
}
void heap_sort(double *v, int n) {
  for (int i = n / 2; i-- > 0;) sink(v, i, n);
  while (n-- > 1) { double t = v[0]; v[0] = v[n]; v[n] = t; sink(v, 0, n); }
}
C
put lib/pool.h <<'C'
#pragma once
void pool_run(int threads, int n, void (*f)(int i, void *arg), void *arg);
C
put lib/pool.c <<'C'
#include "pool.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
struct job { atomic_int next; int n; void (*f)(int, void *); void *arg; };
static void *work(void *p) {
  struct job *j = p; int i;
  while ((i = atomic_fetch_add(&j->next, 1)) < j->n) j->f(i, j->arg);
  return NULL;
}
void pool_run(int threads, int n, void (*f)(int, void *), void *arg) {
  struct job j = { .n = n, .f = f, .arg = arg };
  pthread_t *t = calloc(threads, sizeof *t);
  for (int i = 0; i < threads; i++) if (pthread_create(t + i, NULL, work, &j)) abort();
  for (int i = 0; i < threads; i++) pthread_join(t[i], NULL);
  free(t);
}
C
put main.c <<'C'
#include "eval.h"
#include "parse.h"
#include "text.h"
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv) {
  struct map vars = { 0 }; struct text out = { 0 }; char *line = NULL; size_t cap = 0; int bad = 0;
  FILE *in = argc > 1 ? fopen(argv[1], "r") : stdin;
  if (!in) { perror(argv[1]); return 2; }
  while (getline(&line, &cap, in) > 0) {
    struct arena a = { 0 }; double v;
    struct node *n = parse(&a, line);
    if (!n) bad++, text_add(&out, "syntax\n");
    else if (eval(&vars, n, &v)) bad++, text_add(&out, "undefined\n");
    else text_add(&out, "%.10g (%d)\n", v, node_count(n));
    arena_drop(&a);
  }
  fputs(out.s ? out.s : "", stdout);
  text_free(&out); map_free(&vars); free(line);
  return bad > 0;
}
C
put test/map.c <<'C'
#include "map.h"
#include <assert.h>
#include <stdio.h>
int main(void) {
  struct map m = { 0 }; char k[16];
  for (int i = 0; i < 20000; i++) { sprintf(k, "k%d", i); *map_slot(&m, k) = i; }
  for (int i = 0; i < 20000; i++) { sprintf(k, "k%d", i); assert(*map_find(&m, k) == i); }
  assert(m.count == 20000 && !map_find(&m, "none")); map_free(&m);
}
C
put test/heap.c <<'C'
#include "heap.h"
#include <assert.h>
#include <stdlib.h>
int main(void) {
  static double v[100000]; srand(5);
  for (int i = 0; i < 100000; i++) v[i] = rand();
  heap_sort(v, 100000);
  for (int i = 1; i < 100000; i++) assert(v[i - 1] <= v[i]);
}
C
put test/pool.c <<'C'
#include "pool.h"
#include <assert.h>
#include <stdatomic.h>
static atomic_long sum;
static void add(int i, void *arg) { (void)arg; for (int k = 0; k < 100; k++) sum += i; }
int main(void) { pool_run(6, 2000, add, 0); assert(sum == 199900000); }
C
put test/hash.c <<'C'
#include "hash.h"
#include <assert.h>
int main(void) { assert(hash_adler("Wikipedia", 9) == 0x11e60398); assert(hash_text("a") != hash_text("b")); }
C
put test/crash.c <<'C'
#include <assert.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
int main(void) {
  int s; volatile int *volatile nowhere = 0; pid_t p = fork();
  if (!p) { *nowhere = 1; _exit(0); }
  assert(waitpid(p, &s, 0) == p && WIFSIGNALED(s) && WTERMSIG(s) == SIGSEGV);
}
C
put test/run.sh <<'S'
printf '1+2*3\n2^3^2\nx = 4\nsqrt(x)*-x\n(1\n1/0\ny\nfact(10) %% 1000\n' > in
"$1" in; echo "status $?"; "$1" < in | cksum; "$1" nowhere 2>&1; echo "status $?"
S
find . -name '*.[ch]' | wc -l
make -s -j3 check
make -q all && echo 'nothing to do'
touch lib/node.h; make -n all | grep -c -- ' -c '
sed -i 's/"syntax/"SYNTAX/' main.c; make -s && build/calc in | grep -c SYNTAX
nm -D build/libcalc.so | grep -c ' T '; ar t build/libcalc.a | sort | tr '\n' ' '; echo
size build/calc | awk 'NR == 2 { print ($1 > 1000) }'; strip build/calc; build/calc in | head -1
make -s clean; ls; cd ..; rm -rf p
