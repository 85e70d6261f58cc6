// The expert MLP, forward and backward: gather, product, activation, product and combine in one pass over an expert's rows.
//
// Letters: T tokens, K top-k, R = T*K rows, E experts, D width, F expert width, G pre-activation width (F or 2F), P slots.
// Slots are those of kernels/routing.py: each expert owns a segment, padded to a multiple of 16 with slots that hold no row.
// An expert's segment is worked on in chunks of CHUNK slots, each by one thread, in blocks of BLOCK; weight gradients of
// chunks are added in their order. Where a chunk ends depends on its expert's rows alone, and a row's sums on nothing but it.
//
// Operands are rounded where kernels/reference.py rounds them; sums stay fp32 up to that. y and dx of a row are stored as
// operands, and summed over k in fp32.

#include "tiles.h"

#include <algorithm>

namespace {

constexpr int64_t BLOCK = 64, CHUNK = 2048, MULTIPLE = 16;

struct Shape {
  int64_t T, K, E, D, F, G;
  int64_t rows() const { return T * K; }
};

struct Chunk {
  int64_t expert, first, end;  // slots
  int64_t partial;             // which of the buffers for weight gradients; -1: the result itself
};

// Which row each slot holds (-1: none), where each row went (-1: dropped), and the chunks.
struct Segments {
  std::vector<int64_t> row_P, slot_R;
  std::vector<Chunk> chunks;
  std::vector<std::vector<int64_t>> more_E;  // partial sums of an expert beyond its first chunk, in order
  int64_t partials = 0, slots = 0;

  Segments(const Shape& s, const int64_t* expert_TK) : slot_R(s.rows()), more_E(s.E) {
    std::vector<int64_t> next_E(s.E), count_E(s.E);
    for (int64_t r = 0; r < s.rows(); r++)
      if (expert_TK[r] >= 0) count_E[expert_TK[r]]++;
    for (int64_t e = 0; e < s.E; e++) {
      next_E[e] = slots;
      const int64_t end = slots + (count_E[e] + MULTIPLE - 1) / MULTIPLE * MULTIPLE;
      for (int64_t first = slots; first < end; first += CHUNK) {
        const bool is_first = first == slots;
        if (!is_first) more_E[e].push_back(partials);
        chunks.push_back({e, first, std::min(first + CHUNK, end), is_first ? -1 : partials++});
      }
      slots = end;
    }
    row_P.assign(slots, -1);
    for (int64_t r = 0; r < s.rows(); r++) {
      slot_R[r] = expert_TK[r] < 0 ? -1 : next_E[expert_TK[r]]++;
      if (slot_R[r] >= 0) row_P[slot_R[r]] = r;
    }
    // the longest first, so that no thread begins one while the others have nothing left
    std::stable_sort(chunks.begin(), chunks.end(), [](auto& a, auto& b) { return a.end - a.first > b.end - b.first; });
  }
};

template <class T>
struct Space {
  std::vector<T> plain, up, down, x, dy, a, dh, xT, xP, aT, aP, dhP, dyP;
  std::vector<float> h, wide;
};

// (inner, outer) of a weight, fp32 -> operands, plain.
template <class A>
void operands(const float* from, int64_t count, typename A::T* to) {
  for (int64_t i = 0; i < count; i += LANES) A::store(to + i, A::round(load<Floats>(from + i)));
}

// A weight (rows, columns), fp32, as a packed operand whose inner dimension is its rows or, TRANSPOSED, its columns.
template <class A, bool TRANSPOSED>
typename A::T* packed_weight(
    const float* w, int64_t rows, int64_t columns, std::vector<typename A::T>& plain, std::vector<typename A::T>& kept) {
  auto *of_w = scratch(plain, rows * columns), *to = scratch(kept, rows * columns);
  operands<A>(w, rows * columns, of_w);
  if constexpr (TRANSPOSED) pack_transposed<A>(of_w, columns, rows, columns, to);
  else pack<A>(of_w, columns, rows, columns, to);
  return to;
}

// The rows of slots, zeros where a slot holds none.
template <class T>
void gather(const T* x_TD, int64_t D, int64_t K, const int64_t* row_P, int64_t slots, T* to) {
  for (int64_t i = 0; i < slots; i++) {
    if (row_P[i] < 0) std::memset(to + i * D, 0, D * sizeof(T));
    else std::memcpy(to + i * D, x_TD + row_P[i] / K * D, D * sizeof(T));
  }
}

// out_TD = the sum over k of the rows' values, in the order of k.
template <class A>
void combine(const Shape& s, const typename A::T* rows_PD, const std::vector<int64_t>& slot_R, float* out_TD) {
#pragma omp parallel for schedule(static)
  for (int64_t t = 0; t < s.T; t++)
    for (int64_t d = 0; d < s.D; d += LANES) {
      Floats sum = {};
      for (int64_t k = 0; k < s.K; k++)
        if (slot_R[t * s.K + k] >= 0) sum += A::load(rows_PD + slot_R[t * s.K + k] * s.D + d);
      store(out_TD + t * s.D + d, sum);
    }
}

inline Floats sigmoid(Floats x) {
  Floats e = exp2_of((x < 0.0f ? x : -x) * 1.44269504f), r = 1.0f / (1.0f + e);
  return x < 0.0f ? e * r : r;
}

struct Relu2 {
  static Floats forward(Floats gate, Floats) {
    Floats r = gate < 0.0f ? Floats{} : gate;
    return r * r;
  }
  static Floats backward(Floats gate, Floats, Floats da, Floats& dgate, Floats&) {
    Floats r = gate < 0.0f ? Floats{} : gate;
    dgate = 2.0f * r * da;
    return r * r;
  }
};

struct SwiGlu {
  static Floats forward(Floats gate, Floats value) { return gate * sigmoid(gate) * value; }
  static Floats backward(Floats gate, Floats value, Floats da, Floats& dgate, Floats& dvalue) {
    Floats s = sigmoid(gate), silu = gate * s;
    dvalue = da * silu;
    dgate = da * value * (s + silu * (1.0f - s));
    return silu * value;
  }
};

template <class A, class Act>
void forward(
    const Shape& s, const typename A::T* x_TD, const float* up_EDG, const float* down_EFD, const int64_t* expert_TK,
    const float* weight_TK, typename A::T* h_PG, int64_t saved, float* y_TD) {
  using T = typename A::T;
  const Segments where(s, expert_TK);
  const auto y_PD = memory<T>(where.slots * s.D);
#pragma omp parallel
  {
    static thread_local Space<T> mine;
    T *x = scratch(mine.x, BLOCK * s.D), *a = scratch(mine.a, BLOCK * s.F);
    float *h = scratch(mine.h, BLOCK * s.G), *y = scratch(mine.wide, BLOCK * s.D);
#pragma omp for schedule(dynamic, 1)
    for (const Chunk& chunk : where.chunks) {
      const T* up = packed_weight<A, false>(up_EDG + chunk.expert * s.D * s.G, s.D, s.G, mine.plain, mine.up);
      const T* down = packed_weight<A, false>(down_EFD + chunk.expert * s.F * s.D, s.F, s.D, mine.plain, mine.down);
      for (int64_t p = chunk.first; p < chunk.end; p += BLOCK) {
        const int64_t n = std::min(BLOCK, chunk.end - p);
        const int64_t* row = where.row_P.data() + p;
        gather(x_TD, s.D, s.K, row, n, x);
        multiply<A>(n, s.G, s.D, x, s.D, up, s.G, h, s.G, false);
        for (int64_t i = 0; i < n; i++) {
          const float weight = row[i] < 0 ? 0.0f : weight_TK[row[i]];
          T *to = h_PG + (p + i) * s.G, *a_F = a + i * s.F;
          for (int64_t g = 0; g < s.G; g += LANES) A::store(to + g, A::round(load<Floats>(h + i * s.G + g)));
          for (int64_t f = 0; f < s.F; f += LANES) {
            const Floats value = s.G > s.F ? A::load(to + s.F + f) : Floats{};
            A::store(a_F + f, A::round(Act::forward(A::load(to + f), value) * weight));
          }
        }
        multiply<A>(n, s.D, s.F, a, s.F, down, s.D, y, s.D, false);
        for (int64_t i = 0; i < n * s.D; i += LANES) A::store(y_PD.get() + p * s.D + i, A::round(load<Floats>(y + i)));
      }
    }
    done<A>();
  }
  if (saved > where.slots) std::memset(h_PG + where.slots * s.G, 0, (saved - where.slots) * s.G * sizeof(T));
  combine<A>(s, y_PD.get(), where.slot_R, y_TD);
}

template <class A, class Act>
void backward(
    const Shape& s, const float* dy_TD, const typename A::T* x_TD, const float* up_EDG, const float* down_EFD,
    const int64_t* expert_TK, const float* weight_TK, const typename A::T* h_PG, float* dx_TD, float* dup_EDG,
    float* ddown_EFD, float* dweight_TK) {
  using T = typename A::T;
  const Segments where(s, expert_TK);
  const int64_t up_size = s.D * s.G, down_size = s.F * s.D;
  const auto dx_PD = memory<T>(where.slots * s.D), dy_of = memory<T>(s.T * s.D);
  const auto partial = memory<float>(where.partials * (up_size + down_size));
  std::vector<char> active(s.E);
  for (const Chunk& chunk : where.chunks) active[chunk.expert] = 1;
#pragma omp parallel
  {
    static thread_local Space<T> mine;
    T *x = scratch(mine.x, BLOCK * s.D), *dy = scratch(mine.dy, BLOCK * s.D), *a = scratch(mine.a, BLOCK * s.F);
    T *dh = scratch(mine.dh, BLOCK * s.G), *dhP = scratch(mine.dhP, BLOCK * s.G), *dyP = scratch(mine.dyP, BLOCK * s.D);
    T *xP = scratch(mine.xP, BLOCK * s.D), *xT = scratch(mine.xT, BLOCK * s.D);
    T *aP = scratch(mine.aP, BLOCK * s.F), *aT = scratch(mine.aT, BLOCK * s.F);
    float *da = scratch(mine.h, BLOCK * s.F), *dx = scratch(mine.wide, BLOCK * s.D);
#pragma omp for schedule(static)
    for (int64_t t = 0; t < s.T; t++) operands<A>(dy_TD + t * s.D, s.D, dy_of.get() + t * s.D);
#pragma omp for schedule(static) nowait
    for (int64_t e = 0; e < s.E; e++)
      if (!active[e]) {
        std::memset(dup_EDG + e * up_size, 0, up_size * sizeof(float));
        std::memset(ddown_EFD + e * down_size, 0, down_size * sizeof(float));
      }
#pragma omp for schedule(dynamic, 1)
    for (const Chunk& chunk : where.chunks) {
      const float *up_DG = up_EDG + chunk.expert * up_size, *down_FD = down_EFD + chunk.expert * down_size;
      const T* upT = packed_weight<A, true>(up_DG, s.D, s.G, mine.plain, mine.up);
      const T* downT = packed_weight<A, true>(down_FD, s.F, s.D, mine.plain, mine.down);
      float* dup = chunk.partial < 0 ? dup_EDG + chunk.expert * up_size : partial.get() + chunk.partial * (up_size + down_size);
      float* ddown = chunk.partial < 0 ? ddown_EFD + chunk.expert * down_size : dup + up_size;
      for (int64_t p = chunk.first; p < chunk.end; p += BLOCK) {
        const int64_t n = std::min(BLOCK, chunk.end - p);
        const int64_t* row = where.row_P.data() + p;
        const bool more = p > chunk.first;
        gather(dy_of.get(), s.D, s.K, row, n, dy);
        gather(x_TD, s.D, s.K, row, n, x);
        multiply<A>(n, s.F, s.D, dy, s.D, downT, s.F, da, s.F, false);
        for (int64_t i = 0; i < n; i++) {
          const float weight = row[i] < 0 ? 0.0f : weight_TK[row[i]];
          const T* h_G = h_PG + (p + i) * s.G;
          Floats dweight = {};
          for (int64_t f = 0; f < s.F; f += LANES) {
            Floats dgate, dvalue, da_L = load<Floats>(da + i * s.F + f), value = s.G > s.F ? A::load(h_G + s.F + f) : Floats{};
            Floats act = Act::backward(A::load(h_G + f), value, da_L, dgate, dvalue);
            dweight += act * da_L;
            A::store(a + i * s.F + f, A::round(act * weight));
            A::store(dh + i * s.G + f, A::round(dgate * weight));
            if (s.G > s.F) A::store(dh + i * s.G + s.F + f, A::round(dvalue * weight));
          }
          if (row[i] >= 0) {
            float sum = 0;
            for (int64_t l = 0; l < LANES; l++) sum += dweight[l];
            dweight_TK[row[i]] = sum;
          }
        }
        multiply<A>(n, s.D, s.G, dh, s.G, upT, s.D, dx, s.D, false);
        for (int64_t i = 0; i < n * s.D; i += LANES) A::store(dx_PD.get() + p * s.D + i, A::round(load<Floats>(dx + i)));
        pack_transposed<A>(x, s.D, n, s.D, xP), unpack<A>(xP, s.D, n, xT), pack<A>(dh, s.G, n, s.G, dhP);
        multiply<A>(s.D, s.G, n, xT, n, dhP, s.G, dup, s.G, more);
        pack_transposed<A>(a, s.F, n, s.F, aP), unpack<A>(aP, s.F, n, aT), pack<A>(dy, s.D, n, s.D, dyP);
        multiply<A>(s.F, s.D, n, aT, n, dyP, s.D, ddown, s.D, more);
      }
    }
    done<A>();
#pragma omp for schedule(dynamic, 1)
    for (int64_t e = 0; e < s.E; e++)
      for (int64_t part : where.more_E[e]) {
        const float* more = partial.get() + part * (up_size + down_size);
        float *dup = dup_EDG + e * up_size, *ddown = ddown_EFD + e * down_size;
        for (int64_t i = 0; i < up_size; i++) dup[i] += more[i];
        for (int64_t i = 0; i < down_size; i++) ddown[i] += more[up_size + i];
      }
  }
  for (int64_t r = 0; r < s.rows(); r++)
    if (where.slot_R[r] < 0) dweight_TK[r] = 0.0f;
  combine<A>(s, dx_PD.get(), where.slot_R, dx_TD);
}

}  // namespace

#define EXPORT(NAME, A)                                                                                                       \
  extern "C" bool expert_mlp_forward_##NAME(                                                                                  \
      int64_t T, int64_t K, int64_t E, int64_t D, int64_t F, int64_t G, const void* x, const float* up, const float* down,    \
      const int64_t* expert, const float* weight, void* h, int64_t saved, float* y) {                                         \
    const Shape s{T, K, E, D, F, G};                                                                                          \
    auto run = G > F ? forward<A, SwiGlu> : forward<A, Relu2>;                                                                \
    return has_memory([&] { run(s, (const A::T*)x, up, down, expert, weight, (A::T*)h, saved, y); });                         \
  }                                                                                                                           \
  extern "C" bool expert_mlp_backward_##NAME(                                                                                 \
      int64_t T, int64_t K, int64_t E, int64_t D, int64_t F, int64_t G, const float* dy, const void* x, const float* up,      \
      const float* down, const int64_t* expert, const float* weight, const void* h, float* dx, float* dup, float* ddown,      \
      float* dweight) {                                                                                                       \
    const Shape s{T, K, E, D, F, G};                                                                                          \
    auto run = G > F ? backward<A, SwiGlu> : backward<A, Relu2>;                                                              \
    return has_memory(                                                                                                        \
        [&] { run(s, dy, (const A::T*)x, up, down, expert, weight, (const A::T*)h, dx, dup, ddown, dweight); });              \
  }
EXPORT(native, Native)
EXPORT(emulated, Emulated)
EXPORT(full, Full)
