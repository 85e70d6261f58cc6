// Operands and small products, for one thread, under the three arithmetics of kernels/precision.py.
//
// An operand is bf16 (native), fp32 that holds bf16 values (emulated) or fp32 (full); sums are fp32. Products are ATen's brgemm,
// oneDNN's micro-kernel: AMX tiles, AVX512-BF16 or fp32 FMA, whichever the machine has. Its right operand is "packed": bf16 as
// pairs of rows, element (k, n) at [k / 2][n][k % 2], fp32 as it is. Row counts of packed operands are even.
//
// Nothing here looks at how many threads there are: who computes a tile does not change its bits.
#pragma once

#include <c10/util/BFloat16.h>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

namespace at::native::cpublas {
void brgemm(
    int64_t M, int64_t N, int64_t K, int64_t ld_a, int64_t ld_b, int64_t ld_c, const bool add, const c10::BFloat16* a,
    const c10::BFloat16* b, float* c, bool packed);
void brgemm(
    int64_t M, int64_t N, int64_t K, int64_t ld_a, int64_t ld_b, int64_t ld_c, const bool add, const float* a, const float* b,
    float* c, bool packed);
void brgemm_release(bool packed);
}  // namespace at::native::cpublas

using bf16 = c10::BFloat16;

// Sixteen numbers at once, whatever the width of the machine's registers.
typedef float Floats __attribute__((vector_size(64)));
typedef uint32_t Words __attribute__((vector_size(64)));
typedef uint16_t Halves __attribute__((vector_size(32)));
constexpr int64_t LANES = 16;

template <class V, class T>
inline V load(const T* from) {
  V v;
  std::memcpy(&v, from, sizeof(V));
  return v;
}

template <class V, class T>
inline void store(T* to, V v) {
  std::memcpy(to, &v, sizeof(V));
}

// The bits of the nearest bf16, ties to even. A NaN stays one but for a payload of nothing but ones, which no operation makes.
inline Words nearest(Floats x) {
  Words bits = (Words)x;
  return (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
}

// What sets the arithmetics apart. `round` makes operands, `store` writes them, `load` reads them as numbers; `store_pair` writes
// 16 columns of two rows of a packed operand whose rows are `columns` long.
struct Native {
  using T = bf16;
  static constexpr bool PAIRS = true;
#ifdef __AVX512BF16__  // what the loops below do without them, but for numbers below 2^-126, which become 0
  using Rounded = __m256i;
  static Rounded round(Floats x) { return (__m256i)_mm512_cvtneps_pbh((__m512)x); }
  static void store(bf16* to, Rounded x) { _mm256_storeu_si256((__m256i*)to, x); }
  static Floats load(const bf16* from) {
    return (Floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)from)), 16);
  }
  static void store_pair(bf16* to, int64_t, Rounded even, Rounded odd) {
    __m512i high = _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16);
    _mm512_storeu_si512(to, _mm512_or_si512(_mm512_cvtepu16_epi32(even), high));
  }
#else
  using Rounded = Halves;
  static Rounded round(Floats x) { return __builtin_convertvector(nearest(x), Halves); }
  static void store(bf16* to, Rounded x) { ::store(to, x); }
  static Floats load(const bf16* from) { return (Floats)(__builtin_convertvector(::load<Halves>(from), Words) << 16); }
  static void store_pair(bf16* to, int64_t, Rounded even, Rounded odd) {
    ::store(to, __builtin_convertvector(even, Words) | __builtin_convertvector(odd, Words) << 16);
  }
#endif
};

struct Full {
  using T = float;
  static constexpr bool PAIRS = false;
  using Rounded = Words;
  static Words round(Floats x) { return (Words)x; }
  static void store(float* to, Words bits) { ::store(to, bits); }
  static Floats load(const float* from) { return ::load<Floats>(from); }
  static void store_pair(float* to, int64_t columns, Words even, Words odd) { ::store(to, even), ::store(to + columns, odd); }
};

struct Emulated : Full {
  static Words round(Floats x) { return nearest(x) << 16; }
};

// c (M, N) = or += a (M, K) b (K, N); b packed, with rows of `ld_b` columns.
template <class A>
inline void multiply(
    int64_t M, int64_t N, int64_t K, const typename A::T* a, int64_t ld_a, const typename A::T* b, int64_t ld_b, float* c,
    int64_t ld_c, bool add) {
  at::native::cpublas::brgemm(M, N, K, ld_a, ld_b, ld_c, add, a, b, c, A::PAIRS);
}

// Every thread that multiplied calls it before it ends: AMX's tiles are state of the thread.
template <class A>
inline void done() {
  at::native::cpublas::brgemm_release(A::PAIRS);
}

// Column `c` of a packed operand.
template <class A>
inline int64_t column(int64_t c) {
  return A::PAIRS ? 2 * c : c;
}

template <int HALF, class V>
inline void exchange(V& a, V& b) {  // the second half of each HALF * 2 lanes of a with the first of b
  constexpr int h = HALF;
#define UPPER(i) (((i) & h) ? 16 + (i) - h : (i))
#define LOWER(i) (((i) & h) ? 16 + (i) : (i) + h)
#define ALL(F) F(0), F(1), F(2), F(3), F(4), F(5), F(6), F(7), F(8), F(9), F(10), F(11), F(12), F(13), F(14), F(15)
#ifdef __clang__
  V first = __builtin_shufflevector(a, b, ALL(UPPER)), second = __builtin_shufflevector(a, b, ALL(LOWER));
#else
  V first = __builtin_shuffle(a, b, Words{ALL(UPPER)}), second = __builtin_shuffle(a, b, Words{ALL(LOWER)});
#endif
  a = first, b = second;
#undef ALL
#undef LOWER
#undef UPPER
}

template <int HALF, class V>
inline void exchanges(V* x) {
  for (int i = 0; i < 16; i++)
    if (!(i & HALF)) exchange<HALF>(x[i], x[i + HALF]);
}

// A square of 16 x 16 numbers in its place.
template <class V>
inline void transpose_square(V* x) {
  exchanges<8>(x), exchanges<4>(x), exchanges<2>(x), exchanges<1>(x);
}

// to (columns, rows) with `ld_to` = the transpose of from (rows, columns) with `ld`, of words; both multiples of 16.
inline void transpose(const uint32_t* from, int64_t ld, int64_t rows, int64_t columns, uint32_t* to, int64_t ld_to) {
  for (int64_t c = 0; c < columns; c += 16)
    for (int64_t r = 0; r < rows; r += 16) {
      Words x[16];
      for (int i = 0; i < 16; i++) x[i] = load<Words>(from + (r + i) * ld + c);
      transpose_square(x);
      for (int i = 0; i < 16; i++) store(to + (c + i) * ld_to + r, x[i]);
    }
}

inline const uint16_t* halves(const bf16* x) { return reinterpret_cast<const uint16_t*>(x); }
inline uint16_t* halves(bf16* x) { return reinterpret_cast<uint16_t*>(x); }
template <class T>
inline const uint32_t* words(const T* x) { return reinterpret_cast<const uint32_t*>(x); }
template <class T>
inline uint32_t* words(T* x) { return reinterpret_cast<uint32_t*>(x); }

// Packs (rows, columns) with `ld` between rows: rows become the inner dimension.
template <class A>
inline void pack(const typename A::T* from, int64_t ld, int64_t rows, int64_t columns, typename A::T* to) {
  if constexpr (A::PAIRS) {
    for (int64_t r = 0; r < rows; r += 2) {
      const uint16_t *even = halves(from + r * ld), *odd = even + ld;
      uint32_t* pair = words(to + r * columns);
#pragma omp simd
      for (int64_t c = 0; c < columns; c++) pair[c] = even[c] | uint32_t(odd[c]) << 16;
    }
  } else {
    for (int64_t r = 0; r < rows; r++) std::memcpy(to + r * columns, from + r * ld, columns * sizeof(*to));
  }
}

// Packs the transpose of (rows, columns) with `ld` between rows: columns become the inner dimension. Pairs of bf16 lie side by
// side already, so that they are words to be transposed. Multiples of 16 words.
template <class A>
inline void pack_transposed(const typename A::T* from, int64_t ld, int64_t rows, int64_t columns, typename A::T* to) {
  constexpr int64_t each = A::PAIRS ? 2 : 1;
  transpose(words(from), ld / each, rows, columns / each, words(to), rows);
}

// Of a packed transpose (inner, columns), as `pack_transposed` makes it, the transpose itself, row by row.
template <class A>
inline void unpack(const typename A::T* from, int64_t inner, int64_t columns, typename A::T* to) {
  if constexpr (A::PAIRS) {
    for (int64_t r = 0; r < inner; r += 2) {
      const uint32_t* pair = words(from + r * columns);
      uint16_t *even = halves(to + r * columns), *odd = even + columns;
#pragma omp simd
      for (int64_t c = 0; c < columns; c++) even[c] = pair[c], odd[c] = pair[c] >> 16;
    }
  } else {
    std::memcpy(to, from, inner * columns * sizeof(*to));
  }
}

// to (columns, rows) = operands of `gain` times the transpose of from (rows, columns), fp32. Multiples of 16.
template <class A>
inline void operands_transposed(const float* from, int64_t ld, int64_t rows, int64_t columns, float gain, typename A::T* to, int64_t ld_to) {
  for (int64_t c = 0; c < columns; c += 16)
    for (int64_t r = 0; r < rows; r += 16) {
      Words x[16];
      for (int i = 0; i < 16; i++) x[i] = load<Words>(from + (r + i) * ld + c);
      transpose_square(x);
      for (int i = 0; i < 16; i++) A::store(to + (c + i) * ld_to + r, A::round((Floats)x[i] * gain));
    }
}

// 2^x within 2 units of the last place, for x <= 0; 0 below -126. The polynomial is the one of degree 5 with the least relative
// error on [-1/2, 1/2], 9e-8.
inline Floats exp2_of(Floats x) {
  constexpr float magic = 12582912.0f;  // 1.5 * 2^23: the last bits of a sum with it are an integer
  Floats shifted = x + magic, r = x - (shifted - magic);
  Floats p = r * 1.3264727e-3f + 9.6715130e-3f;
  p = p * r + 5.5507336e-2f;
  p = p * r + 2.4022242e-1f;
  p = p * r + 6.9314700e-1f;
  p = p * r + 1.0f;
  Words scaled = (Words)p + ((Words)shifted << 23);
  return x < -126.0f ? Floats{} : (Floats)scaled;
}

// Of 16 rows the sums, or the maxima, of their lanes.
inline Floats sums_of(Floats* x) {
  transpose_square(x);
  for (int half = 8; half; half /= 2)
    for (int i = 0; i < half; i++) x[i] += x[i + half];
  return x[0];
}

inline Floats most_of(Floats* x) {
  transpose_square(x);
  for (int half = 8; half; half /= 2)
    for (int i = 0; i < half; i++) x[i] = x[i] > x[i + half] ? x[i] : x[i + half];
  return x[0];
}

// Memory of `count`, uninitialized (`std::make_unique_for_overwrite` is not in GCC 11's library).
template <class T>
inline std::unique_ptr<T[]> memory(int64_t count) {
  return std::unique_ptr<T[]>(new T[count]);
}

// Whether there was memory for `work`: what is thrown must not leave a function that Python calls.
template <class Work>
inline bool has_memory(Work work) {
  try {
    work();
  } catch (const std::bad_alloc&) {
    return false;
  }
  return true;
}

// A thread's memory of at least `count`, kept from call to call.
template <class T>
inline T* scratch(std::vector<T>& kept, int64_t count) {
  if (int64_t(kept.size()) < count) kept.resize(count);
  return kept.data();
}
