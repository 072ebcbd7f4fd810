/* Layers of deep angular graph convolution, forward and backward, dialogue by dialogue (see compiled.py).

   Equations and names are those of angular.py and block.py, which are the oracle of this file. A worker takes whole dialogues, a few at a
   time, through all layers; their rows stand in the order dialogue, stream, turn, without padding. Matrix products are the BLAS's. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef void Gemm(const char *, const char *, const int *, const int *, const int *, const float *, const float *, const int *, const float *,
                  const int *, const float *, float *, const int *);

typedef struct {
  int64_t past, future; /* turns, below 0: all */
  int64_t loops, speaker; /* 0 any, 1 same, 2 other */
  double angular, unit;
} Rule;

typedef struct {
  Gemm *gemm;
  int64_t threads, dialogues, streams, inputs, width, depth, residual, rules; /* of the states v = inputs, of the layers w = width */
  double squeeze, steep, tiny, least, across_angular, across_unit, scale;
  const double *theta;
  const int64_t *ptr, *speaker;
  const Rule *within;
  const unsigned char *present; /* (N, S) */
  const float *seen, *states;   /* (N, S, v): what weights are taken from, and what goes in */
  const float *first, *bias;    /* (w, v), (w) */
  const float *matrices;        /* (depth, 2 w, w) what [P h, h0] is multiplied by */
  const unsigned char *passed;  /* (depth, N, S, w) what dropout lets pass, or none */
  float *kept;                  /* (R depth w) states that go into every layer */
  float *inside, *mix;          /* (sum S n n), (N S S) normalised weights */
  float *root, *degree;         /* (R) */
  unsigned char *open;          /* (R w) where the last ReLU was open */
  float *output;                /* (N, S, w or v + w) */
  const float *grad;            /* of the output, with its strides */
  int64_t by_turn, by_stream, by_column;
  float *to_seen, *to_states; /* (N, S, v) */
  float *to_weights, *others; /* (w v + w + depth 2 w w): of first, bias, matrices; (threads - 1, ...) the other workers' */
} Task;

/* A dialogue of a worker: its turns, and where its rows and weights begin; the next one's are where they end. */
typedef struct {
  int64_t at, turns, row, weight;
} Dialogue;

enum { ROWS = 256 }; /* of the dialogues that are taken through the layers together, unless one has more */

/* c (m, n) = alpha a b + beta c, row by row; a and b transposed where asked. */
static void product(const Task *t, int ta, int tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda, const float *b, int64_t ldb,
                    float beta, float *c, int64_t ldc) {
  int m_ = m, n_ = n, k_ = k, lda_ = lda, ldb_ = ldb, ldc_ = ldc;
  t->gemm(tb ? "T" : "N", ta ? "T" : "N", &n_, &m_, &k_, &alpha, b, &ldb_, a, &lda_, &beta, c, &ldc_);
}

static inline float dot(const float *restrict a, const float *restrict b, int64_t n) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
  return sum;
}

static inline void add(float *restrict to, float by, const float *restrict x, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) to[i] += by * x[i];
}

static inline float positive(float x) { return x < 0 ? 0 : x; } /* what is not a number stays */

static inline float squeezed(const Task *t, float cosine) {
  float s = t->squeeze, x = s * cosine;
  return x > s ? s : x < -s ? -s : x;
}

/* Angular similarity of a cosine; arcsine as in Cephes, to a few units in the last place. */
static inline float angular(const Task *t, float cosine) {
  float x = squeezed(t, cosine), a = fabsf(x);
  int large = a > 0.5f;
  float z = large ? 0.5f * (1 - a) : a * a, y = large ? sqrtf(z) : a;
  float p = ((((4.2163199048e-2f * z + 2.4181311049e-2f) * z + 4.5470025998e-2f) * z + 7.4953002686e-2f) * z + 1.6666752422e-1f) * z * y + y;
  p = large ? 1.5707963267948966f - 2 * p : p;
  return 0.5f + (float)t->steep * copysignf(p, x);
}

static inline float slope(const Task *t, float cosine) {
  float x = squeezed(t, cosine);
  return (float)(t->steep * t->squeeze) / sqrtf(1 - x * x);
}

static inline int64_t node(const Task *t, const Dialogue *d, int64_t stream, int64_t turn) { return (d->at + turn) * t->streams + stream; }

static inline float here(const Task *t, const Dialogue *d, int64_t stream, int64_t turn) { return t->present[node(t, d, stream, turn)]; }

/* Rows of a dialogue from (N, S, v). */
static void gather(const Task *t, const Dialogue *d, const float *from, float *to) {
  for (int64_t s = 0; s < t->streams; s++)
    for (int64_t i = 0; i < d->turns; i++, to += t->inputs) memcpy(to, from + node(t, d, s, i) * t->inputs, t->inputs * sizeof(float));
}

/* Rows scaled to length one, and by what. */
static void directions(const Task *t, const Dialogue *d, float *unit, float *shrink) {
  int64_t v = t->inputs;
  gather(t, d, t->seen, unit);
  for (int64_t r = 0; r < t->streams * d->turns; r++, unit += v) {
    shrink[r] = 1 / sqrtf(dot(unit, unit, v) + (float)t->tiny);
    for (int64_t j = 0; j < v; j++) unit[j] *= shrink[r];
  }
}

/* What the similarity of two turns is multiplied by, and what is added, (n, n) each. Returns whether any similarity counts. */
static int factors(const Task *t, const Dialogue *d, float *by, float *plus) {
  int64_t n = d->turns, bent = 0;
  memset(by, 0, n * n * sizeof(float));
  memset(plus, 0, n * n * sizeof(float));
  for (const Rule *rule = t->within; rule < t->within + t->rules; rule++) {
    bent |= rule->angular != 0;
    for (int64_t i = 0; i < n; i++) {
      int64_t low = rule->past < 0 || rule->past > i ? 0 : i - rule->past, high = rule->future < 0 || rule->future >= n - i ? n : i + rule->future + 1;
      for (int64_t j = low; j < high; j++) {
        int same = rule->speaker == 0 || (t->speaker[d->at + i] == t->speaker[d->at + j]) == (rule->speaker == 1);
        float on = same && (rule->loops || i != j);
        by[i * n + j] += on * (float)rule->angular;
        plus[i * n + j] += on * (float)rule->unit;
      }
    }
  }
  return bent;
}

/* Normalised weights of a dialogue. */
static void weigh(const Task *t, const Dialogue *d, const float *unit, float *by, float *plus) {
  int64_t n = d->turns, S = t->streams, v = t->inputs;
  float *root = t->root + d->row, *degree = t->degree + d->row, *mix = t->mix + d->at * S * S;
  int bent = factors(t, d, by, plus);
  for (int64_t s = 0; s < S; s++) {
    float *weight = t->inside + d->weight + s * n * n, there[n];
    for (int64_t j = 0; j < n; j++) there[j] = here(t, d, s, j);
    if (bent) {
      const float *u = unit + s * n * v;
      product(t, 0, 1, n, n, v, 1, u, v, u, v, 0, weight, n);
#pragma omp simd
      for (int64_t e = 0; e < n * n; e++) weight[e] = by[e] * angular(t, weight[e]) + plus[e];
    } else memcpy(weight, plus, n * n * sizeof(float));
    for (int64_t i = 0; i < n; i++) degree[s * n + i] = dot(weight + i * n, there, n);
  }
  for (int64_t i = 0; i < n; i++)
    for (int64_t s = 0; s < S; s++)
      for (int64_t o = 0; o < S; o++) {
        float *pair = mix + (i * S + s) * S + o;
        *pair = 0;
        if (s == o || !here(t, d, s, i) || !here(t, d, o, i)) continue;
        if (t->across_angular != 0) *pair = (float)t->across_angular * angular(t, dot(unit + (s * n + i) * v, unit + (o * n + i) * v, v));
        degree[s * n + i] += *pair += (float)t->across_unit;
      }
  for (int64_t s = 0; s < S; s++)
    for (int64_t i = 0; i < n; i++) {
      float of = degree[s * n + i];
      root[s * n + i] = of > 0 && here(t, d, s, i) ? 1 / sqrtf(of > (float)t->least ? of : (float)t->least) : 0;
    }
  for (int64_t s = 0; s < S; s++)
    for (int64_t i = 0; i < n; i++) {
      float *row = t->inside + d->weight + (s * n + i) * n;
      for (int64_t j = 0; j < n; j++) row[j] *= root[s * n + i] * root[s * n + j];
      for (int64_t o = 0; o < S; o++) mix[(i * S + s) * S + o] *= root[s * n + i] * root[o * n + i];
    }
}

/* out = P x, or its transpose's; rows of `out` lie `ld` apart. */
static void propagate(const Task *t, const Dialogue *d, int transposed, const float *x, float *out, int64_t ld) {
  int64_t n = d->turns, S = t->streams, w = t->width;
  const float *mix = t->mix + d->at * S * S;
  for (int64_t s = 0; s < S; s++)
    product(t, transposed, 0, n, w, n, 1, t->inside + d->weight + s * n * n, n, x + s * n * w, w, 0, out + s * n * ld, ld);
  for (int64_t s = 0; s < S; s++)
    for (int64_t i = 0; i < n; i++)
      for (int64_t o = 0; o < S; o++) {
        float by = mix[transposed ? (i * S + o) * S + s : (i * S + s) * S + o];
        if (by != 0) add(out + (s * n + i) * ld, by, x + (o * n + i) * w, w);
      }
}

/* Add the gradient of the weights, given that of out = P x. */
static void propagate_weights(const Task *t, const Dialogue *d, const float *grad, const float *x, float *to_inside, float *to_mix) {
  int64_t n = d->turns, S = t->streams, w = t->width;
  const float *mix = t->mix + d->at * S * S;
  for (int64_t s = 0; s < S; s++) product(t, 0, 1, n, n, w, 1, grad + s * n * w, w, x + s * n * w, w, 1, to_inside + s * n * n, n);
  for (int64_t i = 0; i < n; i++)
    for (int64_t s = 0; s < S; s++)
      for (int64_t o = 0; o < S; o++)
        if (mix[(i * S + s) * S + o] != 0) to_mix[(i * S + s) * S + o] += dot(grad + (s * n + i) * w, x + (o * n + i) * w, w);
}

/* The gradient of states from that of the normalised weights; `to_inside` and `edge` are used up. */
static void weigh_back(const Task *t, const Dialogue *d, const float *unit, const float *shrink, float *by, float *plus, float *to_inside,
                       const float *to_mix, float *moved, float *edge, float *to_unit) {
  int64_t n = d->turns, S = t->streams, v = t->inputs;
  const float *root = t->root + d->row, *degree = t->degree + d->row, *mix = t->mix + d->at * S * S;
  int bent = factors(t, d, by, plus);
  memset(to_unit, 0, S * n * v * sizeof(float));
  memset(moved, 0, S * n * sizeof(float));
  for (int64_t s = 0; s < S; s++)
    for (int64_t i = 0; i < n; i++) {
      const float *row = t->inside + d->weight + (s * n + i) * n, *grad = to_inside + (s * n + i) * n;
      moved[s * n + i] += dot(row, grad, n);
      for (int64_t j = 0; j < n; j++) moved[s * n + j] += row[j] * grad[j];
      for (int64_t o = 0; o < S; o++) {
        float both = mix[(i * S + s) * S + o] * to_mix[(i * S + s) * S + o];
        moved[s * n + i] += both;
        moved[o * n + i] += both;
      }
    }
  for (int64_t r = 0; r < S * n; r++) moved[r] *= degree[r] > (float)t->least ? -0.5f * root[r] * root[r] : 0;
  for (int64_t s = 0; bent && s < S; s++) {
    const float *u = unit + s * n * v, *r = root + s * n;
    float *grad = to_inside + s * n * n, there[n];
    for (int64_t j = 0; j < n; j++) there[j] = here(t, d, s, j);
    product(t, 0, 1, n, n, v, 1, u, v, u, v, 0, edge, n);
    for (int64_t i = 0; i < n; i++) {
      float mine = r[i], more = moved[s * n + i];
#pragma omp simd
      for (int64_t j = 0; j < n; j++)
        grad[i * n + j] = by[i * n + j] * slope(t, edge[i * n + j]) * (mine * r[j] * grad[i * n + j] + more * there[j]);
    }
    for (int64_t i = 0; i < n; i++)
      for (int64_t j = 0; j <= i; j++) edge[i * n + j] = edge[j * n + i] = grad[i * n + j] + grad[j * n + i];
    product(t, 0, 0, n, v, n, 1, edge, n, u, v, 0, to_unit + s * n * v, v);
  }
  for (int64_t i = 0; t->across_angular != 0 && i < n; i++)
    for (int64_t s = 0; s < S; s++)
      for (int64_t o = 0; o < s; o++) {
        int64_t a = s * n + i, b = o * n + i;
        if (!here(t, d, s, i) || !here(t, d, o, i)) continue;
        float f = (to_mix[(i * S + s) * S + o] + to_mix[(i * S + o) * S + s]) * root[a] * root[b] + moved[a] + moved[b];
        f *= (float)t->across_angular * slope(t, dot(unit + a * v, unit + b * v, v));
        add(to_unit + a * v, f, unit + b * v, v);
        add(to_unit + b * v, f, unit + a * v, v);
      }
  for (int64_t s = 0; s < S; s++)
    for (int64_t i = 0; i < n; i++) {
      int64_t r = s * n + i;
      const float *u = unit + r * v, *to_u = to_unit + r * v;
      float *to = t->to_seen + node(t, d, s, i) * v, along = dot(u, to_u, v);
      for (int64_t j = 0; j < v; j++) to[j] += shrink[r] * (to_u[j] - along * u[j]); /* may be the gradient of `states` too */
    }
}

/* h0 = ReLU(x W0 + b) to rows that lie `ld` apart. */
static void initial(const Task *t, int64_t rows, const float *x, float *out, int64_t ld) {
  int64_t v = t->inputs, w = t->width;
  for (int64_t r = 0; r < rows; r++) memcpy(out + r * ld, t->bias, w * sizeof(float));
  product(t, 0, 1, rows, w, v, 1, x, v, t->first, v, 1, out, ld);
  for (int64_t r = 0; r < rows; r++)
    for (int64_t j = 0; j < w; j++) out[r * ld + j] = positive(out[r * ld + j]);
}

/* What lies in a worker's memory, for one group of dialogues; the second line is the backward pass's alone. */
typedef struct {
  float *both, *above, *to_spread, *shrink, *by, *plus;
  float *to_initial, *moved, *edge, *to_inside, *to_mix;
} Room;

static void forward_group(const Task *t, const Dialogue *first, const Dialogue *end, Room m) {
  int64_t S = t->streams, v = t->inputs, w = t->width, base = first->row, rows = end->row - base, out = t->residual ? v + w : w;
  float *kept = t->kept + base * t->depth * w;
  for (const Dialogue *d = first; d < end; d++) {
    float *unit = m.to_spread + (d->row - base) * v;
    directions(t, d, unit, m.shrink);
    weigh(t, d, unit, m.by, m.plus);
    gather(t, d, t->states, m.above + (d->row - base) * v);
  }
  initial(t, rows, m.above, m.both + w, 2 * w);
  for (int64_t r = 0; r < rows; r++) memcpy(kept + r * w, m.both + (2 * r + 1) * w, w * sizeof(float));
  for (int64_t l = 0; l < t->depth; l++) {
    float *state = kept + l * rows * w, *hidden = l + 1 < t->depth ? state + rows * w : m.above;
    for (const Dialogue *d = first; d < end; d++) {
      int64_t r = d->row - base;
      for (int64_t s = 0; t->passed && s < S; s++)
        for (int64_t i = 0; i < d->turns; i++) {
          const unsigned char *pass = t->passed + (l * t->ptr[t->dialogues] * S + node(t, d, s, i)) * w;
          float *row = state + (r + s * d->turns + i) * w, scale = t->scale;
          for (int64_t j = 0; j < w; j++) row[j] *= pass[j] * scale;
        }
      propagate(t, d, 0, state + r * w, m.both + r * 2 * w, 2 * w);
    }
    product(t, 0, 0, rows, w, 2 * w, 1, m.both, 2 * w, t->matrices + l * 2 * w * w, w, 0, hidden, w);
    for (int64_t e = 0; e < rows * w; e++) hidden[e] = positive(hidden[e]);
  }
  unsigned char *open = t->open + base * w;
  for (int64_t e = 0; e < rows * w; e++) open[e] = !(m.above[e] <= 0);
  for (const Dialogue *d = first; d < end; d++)
    for (int64_t s = 0; s < S; s++)
      for (int64_t i = 0; i < d->turns; i++) {
        int64_t r = d->row - base + s * d->turns + i;
        float *to = t->output + node(t, d, s, i) * out, there = here(t, d, s, i);
        if (t->residual) {
          const float *from = t->states + node(t, d, s, i) * v;
          for (int64_t j = 0; j < v; j++) to[j] = there * from[j];
          to += v;
        }
        for (int64_t j = 0; j < w; j++) to[j] = there * m.above[r * w + j];
      }
}

static void backward_group(const Task *t, const Dialogue *first, const Dialogue *end, Room m, float *to_weights) {
  int64_t S = t->streams, v = t->inputs, w = t->width, base = first->row, rows = end->row - base;
  const float *kept = t->kept + base * t->depth * w;
  const unsigned char *open = t->open + base * w;
  float *to_first = to_weights, *to_bias = to_first + w * v, *to_matrices = to_bias + w;
  memset(m.to_inside, 0, (end->weight - first->weight) * sizeof(float));
  memset(m.to_mix, 0, rows * S * sizeof(float));
  memset(m.to_initial, 0, rows * w * sizeof(float));
  for (const Dialogue *d = first; d < end; d++) {
    if (t->passed) gather(t, d, t->states, m.to_spread + (d->row - base) * v);
    for (int64_t s = 0; s < S; s++)
      for (int64_t i = 0; i < d->turns; i++) {
        int64_t r = d->row - base + s * d->turns + i;
        const float *grad = t->grad + (d->at + i) * t->by_turn + s * t->by_stream + (t->residual ? v * t->by_column : 0);
        float there = here(t, d, s, i);
        for (int64_t j = 0; j < w; j++) m.above[r * w + j] = open[r * w + j] ? there * grad[j * t->by_column] : 0;
      }
  }
  if (t->passed) initial(t, rows, m.to_spread, m.both + w, 2 * w);
  else
    for (int64_t r = 0; r < rows; r++) memcpy(m.both + (2 * r + 1) * w, kept + r * w, w * sizeof(float));
  for (int64_t l = t->depth - 1; l >= 0; l--) {
    const float *state = kept + l * rows * w, *matrix = t->matrices + l * 2 * w * w;
    for (const Dialogue *d = first; d < end; d++)
      propagate(t, d, 0, state + (d->row - base) * w, m.both + (d->row - base) * 2 * w, 2 * w);
    product(t, 1, 0, 2 * w, w, rows, t->theta[l], m.both, 2 * w, m.above, w, 1, to_matrices + l * 2 * w * w, w);
    product(t, 0, 1, rows, w, w, 1, m.above, w, matrix, w, 0, m.to_spread, w);
    product(t, 0, 1, rows, w, w, 1, m.above, w, matrix + w * w, w, 1, m.to_initial, w);
    for (const Dialogue *d = first; d < end; d++) {
      int64_t r = d->row - base;
      propagate_weights(t, d, m.to_spread + r * w, state + r * w, m.to_inside + d->weight - first->weight, m.to_mix + r * S);
      propagate(t, d, 1, m.to_spread + r * w, m.above + r * w, w);
    }
    float scale = t->passed ? t->scale : 1;
    if (l || t->passed)
      for (int64_t e = 0; e < rows * w; e++) m.above[e] = state[e] <= 0 ? 0 : scale * m.above[e];
  }
  for (int64_t r = 0; r < rows; r++)
    for (int64_t j = 0; j < w; j++) {
      float *to = m.to_initial + r * w + j;
      *to = m.both[(2 * r + 1) * w + j] <= 0 ? 0 : *to + m.above[r * w + j];
    }
  for (const Dialogue *d = first; d < end; d++) gather(t, d, t->states, m.to_spread + (d->row - base) * v);
  product(t, 1, 0, w, v, rows, 1, m.to_initial, w, m.to_spread, v, 1, to_first, v);
  for (int64_t r = 0; r < rows; r++) add(to_bias, 1, m.to_initial + r * w, w);
  product(t, 0, 0, rows, v, w, 1, m.to_initial, w, t->first, v, 0, m.above, v);
  for (const Dialogue *d = first; d < end; d++) {
    int64_t r = d->row - base;
    for (int64_t s = 0; s < S; s++)
      for (int64_t i = 0; i < d->turns; i++) {
        const float *grad = t->grad + (d->at + i) * t->by_turn + s * t->by_stream, *row = m.above + (r + s * d->turns + i) * v;
        float *to = t->to_states + node(t, d, s, i) * v, there = t->residual ? here(t, d, s, i) : 0;
        for (int64_t j = 0; j < v; j++) to[j] = row[j] + (there != 0 ? grad[j * t->by_column] : 0);
      }
    if (!t->to_seen) continue;
    directions(t, d, m.both, m.shrink);
    weigh_back(t, d, m.both, m.shrink, m.by, m.plus, m.to_inside + d->weight - first->weight, m.to_mix + r * S, m.moved, m.edge, m.to_spread);
  }
}

static double cost(const Task *t, int64_t turns) {
  return (double)t->streams * turns * (6.0 * t->width * t->depth + 3.0 * t->inputs + (4.0 * t->depth + 3) * turns);
}

/* The longest first, ties in order. */
static int longer(const void *one, const void *other) {
  const Dialogue *a = one, *b = other;
  return a->turns != b->turns ? (a->turns < b->turns ? 1 : -1) : (a->at > b->at) - (a->at < b->at);
}

/* Who takes which dialogues: the longest first, each to the worker with the least to do. Returns the dialogues of every worker in order,
   and behind them one that is none, where the last one ends; in `ends` where each worker's end. NULL where there was no memory. */
static Dialogue *plan(const Task *t, int64_t *ends) {
  int64_t S = t->streams, D = 0, count = 0;
  Dialogue *sorted = malloc((t->dialogues + 1) * sizeof *sorted), *found = calloc(t->dialogues + 1, sizeof *found);
  int64_t *owner = malloc((t->dialogues + 1) * sizeof *owner);
  double *load = calloc(t->threads, sizeof *load);
  if (sorted && found && owner && load) {
    for (int64_t b = 0; b < t->dialogues; b++)
      if (t->ptr[b + 1] > t->ptr[b]) sorted[D++] = (Dialogue){t->ptr[b], t->ptr[b + 1] - t->ptr[b], 0, 0};
    qsort(sorted, D, sizeof *sorted, longer);
    for (int64_t i = 0; i < D; i++) {
      int64_t least = 0;
      for (int64_t k = 1; k < t->threads; k++) least = load[k] < load[least] ? k : least;
      load[least] += cost(t, sorted[i].turns);
      owner[i] = least;
    }
    for (int64_t k = 0; k < t->threads; k++) {
      for (int64_t i = 0; i < D; i++) {
        if (owner[i] != k) continue;
        Dialogue *d = found + count++;
        int64_t n = d->turns = sorted[i].turns;
        d->at = sorted[i].at;
        d[1].row = d->row + S * n;
        d[1].weight = d->weight + S * n * n;
      }
      ends[k] = count;
    }
  } else {
    free(found);
    found = NULL;
  }
  free(sorted), free(owner), free(load);
  return found;
}

static const Dialogue *group_of(const Dialogue *first, const Dialogue *end) {
  const Dialogue *d = first + 1;
  while (d < end && d[1].row - first->row <= ROWS) d++;
  return d;
}

/* A part of a worker's memory, `count` numbers from the start of a cache line. */
static float *cut(float **from, int64_t count) {
  float *part = *from;
  *from += (count + 15) / 16 * 16;
  return part;
}

/* Returns 0, or 1 where there was no memory. */
int run(const Task *t, int backward) {
  int64_t ends[t->threads], failed = 0;
  Dialogue *dialogues = plan(t, ends);
  if (!dialogues) return 1;
#pragma omp parallel for num_threads(t->threads) schedule(static, 1) reduction(+ : failed)
  for (int64_t k = 0; k < t->threads; k++) {
    const Dialogue *first = dialogues + (k ? ends[k - 1] : 0), *end = dialogues + ends[k];
    int64_t rows = 0, weights = 0, square = 0, S = t->streams, v = t->inputs, w = t->width, wide = v > w ? v : w;
    for (const Dialogue *d = first, *next; d < end; d = next) {
      next = group_of(d, end);
      int64_t r = next->row - d->row, e = next->weight - d->weight;
      rows = r > rows ? r : rows;
      weights = e > weights ? e : weights;
      for (; d < next; d++) square = d->turns * d->turns > square ? d->turns * d->turns : square;
    }
    if (first == end) continue;
    int64_t size = rows * (2 * w + v + 2 * wide + 1) + 2 * square + 16 * 6;
    if (backward) size += rows * (w + 1 + S) + square + weights + 16 * 5;
    float *room = aligned_alloc(64, (size * sizeof(float) + 63) / 64 * 64), *left = room;
    if (!room) {
      failed++;
      continue;
    }
    Room m = {0};
    m.both = cut(&left, rows * (2 * w > v ? 2 * w : v));
    m.above = cut(&left, rows * wide);
    m.to_spread = cut(&left, rows * wide);
    m.shrink = cut(&left, rows);
    m.by = cut(&left, square);
    m.plus = cut(&left, square);
    if (backward) {
      m.to_initial = cut(&left, rows * w);
      m.moved = cut(&left, rows);
      m.edge = cut(&left, square);
      m.to_inside = cut(&left, weights);
      m.to_mix = cut(&left, rows * S);
    }
    for (const Dialogue *d = first, *next; d < end; d = next) {
      next = group_of(d, end);
      if (backward) backward_group(t, d, next, m, k ? t->others + (k - 1) * (w * v + w + t->depth * 2 * w * w) : t->to_weights);
      else forward_group(t, d, next, m);
    }
    free(room);
  }
  free(dialogues);
  return failed > 0;
}
