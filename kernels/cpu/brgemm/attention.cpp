// Causal self-attention, forward and backward, at the speed of its products.
//
// Letters: B batch, S sequence, H heads, A head width. q, k, v, o and their gradients are (B, S, H, A) in memory, lse (B, H, S)
// is the logarithm of the sum of a row's exponentials, in units of its scores: never below the row's largest, so that no rounding
// makes a probability exceed 1. Scores, softmax and sums are fp32; a product's operands, probabilities and
// score gradients among them, are the arithmetic's. A head of a sequence is one thread's: no sum depends on what is beside it.
//
// Forward: STEP queries against all keys up to the last of them, whose scores fit the cache, so that a row's maximum is known
// before its exponentials. Backward: STEP keys against all queries from the first of them on, transposed (keys down, queries
// across), which makes what the products of dV and dK need the left operand as it is; dQ is summed transposed.

#include "tiles.h"

#include <cmath>

namespace {

constexpr int64_t STEP = 32, ACROSS = 256;  // rows of a tile, and its columns at most

struct Shape {
  int64_t B, S, H, A;
  int64_t row() const { return H * A; }
  int64_t head(int64_t bh) const { return (bh / H) * S * H * A + (bh % H) * A; }
};

template <class T>
struct Space {
  std::vector<T> k, v, q, dO, kT, p, ds;
  std::vector<float> score, dp, out, dqT, delta, dk, dv;
};

template <class A>
void forward(const Shape& s, const typename A::T* q, const typename A::T* k, const typename A::T* v, typename A::T* o, float* lse) {
  using T = typename A::T;
  const int64_t S = s.S, W = s.A, ld = s.row();
  const float scale = 1.44269504f / std::sqrt(float(W));  // exponentials are powers of 2
#pragma omp parallel
  {
    static thread_local Space<T> mine;
    T *kT = scratch(mine.kT, S * W), *vP = scratch(mine.v, S * W), *p = scratch(mine.p, STEP * S);
    float *score = scratch(mine.score, STEP * S), *out = scratch(mine.out, STEP * W);
#pragma omp for schedule(static)
    for (int64_t bh = 0; bh < s.B * s.H; bh++) {
      const int64_t at = s.head(bh);
      pack_transposed<A>(k + at, ld, S, W, kT);
      pack<A>(v + at, ld, S, W, vP);
      for (int64_t i = 0; i < S; i += STEP) {
        const int64_t seen = i + STEP;
        for (int64_t j = 0; j < seen; j += ACROSS) {
          const int64_t n = seen - j < ACROSS ? seen - j : ACROSS;
          multiply<A>(STEP, n, W, q + at + i * ld, ld, kT + column<A>(j), S, score + j, S, false);
        }
        float inverse[STEP];
        for (int64_t r0 = 0; r0 < STEP; r0 += LANES) {
          Floats most_L[LANES], sum_L[LANES] = {};
          for (int64_t r = 0; r < LANES; r++) {
            float* row = score + (r0 + r) * S;
            for (int64_t c = i + r0 + r + 1; c < seen; c++) row[c] = -INFINITY;
            most_L[r] = load<Floats>(row);
            for (int64_t c = LANES; c < seen; c += LANES) {
              Floats x = load<Floats>(row + c);
              most_L[r] = x > most_L[r] ? x : most_L[r];
            }
          }
          const Floats most = most_of(most_L);
          for (int64_t r = 0; r < LANES; r++) {
            const float* row = score + (r0 + r) * S;
            T* row_p = p + (r0 + r) * S;
            for (int64_t c = 0; c < seen; c += LANES) {
              Floats e = exp2_of((load<Floats>(row + c) - most[r]) * scale);
              sum_L[r] += e;
              A::store(row_p + c, A::round(e));
            }
          }
          const Floats sum = sums_of(sum_L);
          store(inverse + r0, 1.0f / sum);
          for (int64_t r = 0; r < LANES; r++) lse[bh * S + i + r0 + r] = most[r] + std::log2(sum[r]) / scale;
        }
        for (int64_t j = 0; j < seen; j += ACROSS) {
          const int64_t n = seen - j < ACROSS ? seen - j : ACROSS;
          multiply<A>(STEP, W, n, p + j, S, vP + j * W, W, out, W, j > 0);
        }
        for (int64_t r = 0; r < STEP; r++) {
          T* row_o = o + at + (i + r) * ld;
          for (int64_t c = 0; c < W; c += LANES) A::store(row_o + c, A::round(load<Floats>(out + r * W + c) * inverse[r]));
        }
      }
    }
    done<A>();
  }
}

template <class A>
void backward(
    const Shape& s, const typename A::T* dO, const typename A::T* q, const typename A::T* k, const typename A::T* v,
    const typename A::T* o, const float* lse, typename A::T* dq, typename A::T* dk, typename A::T* dv) {
  using T = typename A::T;
  const int64_t S = s.S, W = s.A, ld = s.row();
  const float root = 1.0f / std::sqrt(float(W)), scale = 1.44269504f * root;
#pragma omp parallel
  {
    static thread_local Space<T> mine;
    T *qT = scratch(mine.q, 2 * S * W), *qP = qT + S * W, *dOT = scratch(mine.dO, 2 * S * W), *dOP = dOT + S * W;
    T *kT = scratch(mine.kT, 2 * S * W), *kP = kT + S * W, *p = scratch(mine.p, STEP * ACROSS), *ds = scratch(mine.ds, 2 * STEP * ACROSS);
    T* dsP = ds + STEP * ACROSS;
    float *score = scratch(mine.score, STEP * ACROSS), *dp = scratch(mine.dp, STEP * ACROSS);
    float *dqT = scratch(mine.dqT, S * W), *delta = scratch(mine.delta, S);
    float *sum_k = scratch(mine.dk, STEP * W), *sum_v = scratch(mine.dv, STEP * W);
#pragma omp for schedule(static)
    for (int64_t bh = 0; bh < s.B * s.H; bh++) {
      const int64_t at = s.head(bh);
      const float* lse_S = lse + bh * S;
      pack_transposed<A>(q + at, ld, S, W, qT);
      pack<A>(q + at, ld, S, W, qP);
      pack_transposed<A>(dO + at, ld, S, W, dOT);
      pack<A>(dO + at, ld, S, W, dOP);
      pack_transposed<A>(k + at, ld, S, W, kP);
      unpack<A>(kP, W, S, kT);
      for (int64_t i = 0; i < S; i += LANES) {
        Floats sum_L[LANES] = {};
        for (int64_t r = 0; r < LANES; r++) {
          const T *row_o = o + at + (i + r) * ld, *row_dO = dO + at + (i + r) * ld;
          for (int64_t c = 0; c < W; c += LANES) sum_L[r] += A::load(row_o + c) * A::load(row_dO + c);
        }
        store(delta + i, sums_of(sum_L));
      }
      for (int64_t j = 0; j < S; j += STEP) {
        for (int64_t i = j, n; i < S; i += n) {
          n = S - i < ACROSS ? S - i : ACROSS;
          const int64_t from = column<A>(i);
          multiply<A>(STEP, n, W, k + at + j * ld, ld, qT + from, S, score, n, false);
          multiply<A>(STEP, n, W, v + at + j * ld, ld, dOT + from, S, dp, n, false);
          if (i == j)  // the square on the diagonal: a key is seen from its own query on
            for (int64_t r = 1; r < STEP; r++)
              for (int64_t c = 0; c < r; c++) score[r * n + c] = -INFINITY;
          for (int64_t r = 0; r < STEP; r += 2) {
            const float *score_0 = score + r * n, *score_1 = score_0 + n, *dp_0 = dp + r * n, *dp_1 = dp_0 + n;
            T *p_0 = p + r * n, *p_1 = p_0 + n, *ds_0 = ds + r * n, *ds_1 = ds_0 + n, *pair = dsP + r * n;
            for (int64_t c = 0; c < n; c += LANES) {
              const Floats lse_L = load<Floats>(lse_S + i + c), delta_L = load<Floats>(delta + i + c);
              const Floats e_0 = exp2_of((load<Floats>(score_0 + c) - lse_L) * scale);
              const Floats e_1 = exp2_of((load<Floats>(score_1 + c) - lse_L) * scale);
              const auto d_0 = A::round(e_0 * (load<Floats>(dp_0 + c) - delta_L));
              const auto d_1 = A::round(e_1 * (load<Floats>(dp_1 + c) - delta_L));
              A::store(p_0 + c, A::round(e_0)), A::store(p_1 + c, A::round(e_1));
              A::store(ds_0 + c, d_0), A::store(ds_1 + c, d_1);
              A::store_pair(pair + column<A>(c), n, d_0, d_1);
            }
          }
          multiply<A>(STEP, W, n, p, n, dOP + i * W, W, sum_v, W, i > j);
          multiply<A>(STEP, W, n, ds, n, qP + i * W, W, sum_k, W, i > j);
          multiply<A>(W, n, STEP, kT + j, S, dsP, n, dqT + i, S, j > 0);
        }
        for (int64_t r = 0; r < STEP; r++) {
          T *row_k = dk + at + (j + r) * ld, *row_v = dv + at + (j + r) * ld;
          for (int64_t c = 0; c < W; c += LANES) {
            A::store(row_k + c, A::round(load<Floats>(sum_k + r * W + c) * root));
            A::store(row_v + c, A::round(load<Floats>(sum_v + r * W + c)));
          }
        }
      }
      operands_transposed<A>(dqT, S, W, S, root, dq + at, ld);
    }
    done<A>();
  }
}

}  // namespace

#define BOTH(NAME, A)                                                                                                  \
  extern "C" bool attention_forward_##NAME(                                                                            \
      int64_t B, int64_t S, int64_t H, int64_t W, const void* q, const void* k, const void* v, void* o, float* lse) {  \
    using T = A::T;                                                                                                    \
    return has_memory(                                                                                                 \
        [&] { forward<A>({B, S, H, W}, (const T*)q, (const T*)k, (const T*)v, (T*)o, lse); });                         \
  }                                                                                                                    \
  extern "C" bool attention_backward_##NAME(                                                                           \
      int64_t B, int64_t S, int64_t H, int64_t W, const void* dO, const void* q, const void* k, const void* v,         \
      const void* o, const float* lse, void* dq, void* dk, void* dv) {                                                 \
    using T = A::T;                                                                                                    \
    return has_memory([&] {                                                                                            \
      backward<A>({B, S, H, W}, (const T*)dO, (const T*)q, (const T*)k, (const T*)v, (const T*)o, lse, (T*)dq, (T*)dk, \
                  (T*)dv);                                                                                             \
    });                                                                                                                \
  }
BOTH(native, Native)
BOTH(emulated, Emulated)
BOTH(full, Full)
