// One step of Muon (harness/optim/optimizers/muon.py) for many matrices of one shape, each by one thread: momentum, the
// Newton-Schulz iteration towards the nearest semi-orthogonal matrix, and the update.
//
// Letters: I input and O output dimension, M the smaller and N the larger of them. A matrix whose gradient is all zeros,
// as that of an expert without tokens, keeps its momentum and only decays. Iterates are operands of the arithmetic, their
// products fp32 sums. Of an iteration's two symmetric products only what lies on and below the diagonal is computed.

#include "tiles.h"

#include <algorithm>
#include <cmath>

namespace {

constexpr int64_t BLOCK = 64;

template <class T>
struct Space {
  std::vector<float> g, wide;
  std::vector<T> x, xP, gram, gramP, poly;
};

// out (M, M) = change(x y^T, row, column) of a product that is symmetric: rows of x (M, N) times `yP`, y^T packed. Blocks of rows
// up to the diagonal are computed, and mirrored.
template <class A, class Change>
void symmetric(
    const typename A::T* x, int64_t N, const typename A::T* yP, int64_t M, float* wide, typename A::T* out, Change change) {
  for (int64_t i = 0; i < M; i += BLOCK) {
    const int64_t rows = std::min(BLOCK, M - i), seen = i + rows;
    multiply<A>(rows, seen, N, x + i * N, N, yP, M, wide, seen, false);
    for (int64_t r = 0; r < rows; r++)
      for (int64_t j = 0; j < seen; j += LANES) {
        const Floats v = change(load<Floats>(wide + r * seen + j), (i + r) * M + j);
        store(wide + r * seen + j, v);
        A::store(out + (i + r) * M + j, A::round(v));
      }
    operands_transposed<A>(wide, seen, rows, i, 1.0f, out + i, M);
  }
}

template <class A>
void polar(float* g_MN, int64_t M, int64_t N, int64_t steps, const float* abc, Space<typename A::T>& mine) {
  using T = typename A::T;
  T *x = scratch(mine.x, M * N), *xP = scratch(mine.xP, M * N);
  T *gram = scratch(mine.gram, M * M), *gramP = scratch(mine.gramP, M * M), *poly = scratch(mine.poly, M * M);
  float* wide = scratch(mine.wide, BLOCK * N);
  double square = 0;
  for (int64_t r = 0; r < M; r++) {
    Floats sum = {};
    for (int64_t c = 0; c < N; c += LANES) {
      Floats v = load<Floats>(g_MN + r * N + c);
      sum += v * v;
    }
    for (int64_t l = 0; l < LANES; l++) square += sum[l];
  }
  const float inverse = 1.0f / (float(std::sqrt(square)) + 1e-7f);
  for (int64_t i = 0; i < M * N; i += LANES) A::store(x + i, A::round(load<Floats>(g_MN + i) * inverse));
  for (int64_t step = 0; step < steps; step++) {
    const float a = abc[0], b = abc[1], c = abc[2];
    pack_transposed<A>(x, N, M, N, xP);
    symmetric<A>(x, N, xP, M, wide, gram, [](Floats v, int64_t) { return v; });
    pack<A>(gram, M, M, M, gramP);
    symmetric<A>(gram, M, gramP, M, wide, poly, [=](Floats v, int64_t at) { return v * c + A::load(gram + at) * b; });
    pack<A>(x, N, M, N, xP);
    for (int64_t i = 0; i < M; i += BLOCK) {
      const int64_t rows = std::min(BLOCK, M - i);
      multiply<A>(rows, N, M, poly + i * M, M, xP, N, wide, N, false);
      for (int64_t at = 0; at < rows * N; at += LANES) {
        T* to = x + i * N + at;
        A::store(to, A::round(load<Floats>(wide + at) + A::load(to) * a));
      }
    }
    abc += 3;
  }
  for (int64_t i = 0; i < M * N; i += LANES) store(g_MN + i, A::load(x + i));
}

inline void transpose_floats(const float* from, int64_t rows, int64_t columns, float* to) {
  transpose(words(from), columns, rows, columns, words(to), rows);
}

template <class A>
void muon(
    int64_t count, int64_t I, int64_t O, float* const* weight, const float* const* gradient, float* const* momentum,
    const float* rate, const float* keep, float mu, int64_t steps, const float* abc) {
  const int64_t size = I * O;
  const bool tall = I > O;
#pragma omp parallel
  {
    static thread_local Space<typename A::T> mine;
    static thread_local std::vector<float> turned;
    float *g = scratch(mine.g, size), *u = tall ? scratch(turned, size) : g;
#pragma omp for schedule(dynamic, 1)
    for (int64_t n = 0; n < count; n++) {
      Words any = {};
      for (int64_t i = 0; i < size; i += LANES) any |= load<Words>(gradient[n] + i) << 1;  // without the sign of a zero
      bool idle = true;
      for (int64_t l = 0; l < LANES; l++) idle &= any[l] == 0;
      if (idle) {
        for (int64_t i = 0; i < size && keep[n] != 1.0f; i += LANES) store(weight[n] + i, load<Floats>(weight[n] + i) * keep[n]);
        continue;
      }
      for (int64_t i = 0; i < size; i += LANES) {
        const Floats of = load<Floats>(gradient[n] + i), was = load<Floats>(momentum[n] + i);
        const Floats now = was + (of - was) * (1.0f - mu);
        store(momentum[n] + i, now);
        store(g + i, of + (now - of) * mu);
      }
      if (tall) transpose_floats(g, I, O, u);
      polar<A>(u, std::min(I, O), std::max(I, O), steps, abc, mine);
      if (tall) transpose_floats(u, O, I, g);
      for (int64_t i = 0; i < size; i += LANES)
        store(weight[n] + i, load<Floats>(weight[n] + i) * keep[n] - load<Floats>(g + i) * rate[n]);
    }
    done<A>();
  }
}

}  // namespace

#define EXPORT(NAME, A)                                                                                                     \
  extern "C" bool muon_##NAME(                                                                                              \
      int64_t count, int64_t I, int64_t O, float* const* weight, const float* const* gradient, float* const* momentum,      \
      const float* rate, const float* keep, float mu, int64_t steps, const float* abc) {                                    \
    return has_memory([&] { muon<A>(count, I, O, weight, gradient, momentum, rate, keep, mu, steps, abc); });               \
  }
EXPORT(native, Native)
EXPORT(full, Full)

// Whether this machine's brgemm multiplies at all, and rightly.
template <class A>
bool multiplies() {
  constexpr int64_t M = 16, N = 32, K = 32;
  float from[K * N], c[M * N];
  typename A::T a[M * K], b[K * N];
  for (int64_t i = 0; i < K * N; i++) from[i] = float(i / N + 1);
  for (int64_t i = 0; i < K * N; i += LANES) A::store(b + i, A::round(load<Floats>(from + i)));
  for (int64_t i = 0; i < M * K; i++) a[i] = 1.0f;
  typename A::T bP[K * N];
  pack<A>(b, N, K, N, bP);
  try {
    multiply<A>(M, N, K, a, K, bP, N, c, N, false);
    done<A>();
  } catch (...) {  // a processor that oneDNN has no micro-kernel for
    return false;
  }
  for (float x : c)
    if (x != K * (K + 1) / 2) return false;
  return true;
}
extern "C" bool multiplies_native() { return multiplies<Native>(); }
extern "C" bool multiplies_full() { return multiplies<Full>(); }
