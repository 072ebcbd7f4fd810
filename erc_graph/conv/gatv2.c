/* Scores of edges, a . LeakyReLU(target + source + vector) for every head, and their gradients: `_Score` of gatv2.py, which is the oracle.

   Rows are heads * width wide; scores are (heads, edges). A thread of the backward pass has some channels of all edges to itself. */

#include <stdint.h>

typedef const float *Rows;
typedef const int64_t *Ends;

enum { PART = 64 }; /* channels that a thread takes at a time */

void forward(int64_t threads, int64_t edges, int64_t heads, int64_t width, float slope, Ends into, Ends out_of, Ends kind, Rows target, Rows source,
             Rows vectors, Rows a, float *score) {
#pragma omp parallel for num_threads(threads)
  for (int64_t e = 0; e < edges; e++) {
    for (int64_t h = 0; h < heads; h++) {
      int64_t at = h * width, wide = heads * width;
      Rows t = target + into[e] * wide + at, s = source + out_of[e] * wide + at, v = vectors + kind[e] * wide + at, b = a + at;
      float sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t k = 0; k < width; k++) {
        float z = t[k] + s[k] + v[k];
        sum += b[k] * (z > 0 ? z : slope * z);
      }
      score[h * edges + e] = sum;
    }
  }
}

void backward(int64_t threads, int64_t edges, int64_t heads, int64_t width, float slope, Ends into, Ends out_of, Ends kind, Rows target, Rows source,
              Rows vectors, Rows a, Rows grad, float *to_target, float *to_source, float *to_vectors, float *to_a) {
  int64_t parts = (width + PART - 1) / PART, wide = heads * width;
#pragma omp parallel for num_threads(threads)
  for (int64_t part = 0; part < heads * parts; part++) {
    int64_t h = part / parts, first = part % parts * PART, at = h * width + first, count = width - first < PART ? width - first : PART;
    for (int64_t e = 0; e < edges; e++) {
      int64_t i = into[e] * wide + at, j = out_of[e] * wide + at, r = kind[e] * wide + at;
      Rows t = target + i, s = source + j, v = vectors + r, b = a + at;
      float *restrict to_t = to_target + i, *restrict to_s = to_source + j, *restrict to_v = to_vectors + r, *restrict to_b = to_a + at;
      float above = grad[h * edges + e];
#pragma omp simd
      for (int64_t k = 0; k < count; k++) {
        float z = t[k] + s[k] + v[k], open = z > 0 ? above : slope * above, back = open * b[k];
        to_b[k] += open * z;
        to_t[k] += back;
        to_s[k] += back;
        to_v[k] += back;
      }
    }
  }
}
