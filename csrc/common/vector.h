// Vectors of CAUSALMMM_WIDTH floats, or half as many doubles, and the few functions on them that the
// operators need.
// Included by one translation unit per instruction set, each compiled with its own flags; all names
// are therefore local to the unit, and nothing of the standard library that emits code is used.
#pragma once

#include <cstdint>
#include <utility>

#include "common/bfloat16.h"

namespace causalmmm {
namespace {

constexpr int kWidth = CAUSALMMM_WIDTH;

typedef float Floats __attribute__((vector_size(4 * CAUSALMMM_WIDTH)));
typedef double Doubles __attribute__((vector_size(4 * CAUSALMMM_WIDTH)));
typedef std::int32_t Ints __attribute__((vector_size(4 * CAUSALMMM_WIDTH)));
typedef std::uint32_t Bits __attribute__((vector_size(4 * CAUSALMMM_WIDTH)));
typedef std::uint16_t Halves __attribute__((vector_size(2 * CAUSALMMM_WIDTH)));

// Everything is inlined into the loops that use it, where a whole vector's lane count is constant.
#define CAUSALMMM_INLINE inline __attribute__((always_inline))
#define CAUSALMMM_INLINE_LAMBDA __attribute__((always_inline))

CAUSALMMM_INLINE Floats splat(float v) { return v - Floats{}; }

// Vectors of float or double, for code that is the same for both.
template <class T> struct VectorOf;
template <> struct VectorOf<float> { using Type = Floats; };
template <> struct VectorOf<double> { using Type = Doubles; };
template <class T> using Vector = typename VectorOf<T>::Type;
template <class T> constexpr int kLanes = sizeof(Vector<T>) / sizeof(T);

template <class T> CAUSALMMM_INLINE Vector<T> load_all(const T* p) {
  Vector<T> v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

template <class T> CAUSALMMM_INLINE void store_all(T* p, Vector<T> v) {
  __builtin_memcpy(p, &v, sizeof v);
}

// --- memory: the first n of kWidth elements, n = kWidth being the fast case ------------------------

CAUSALMMM_INLINE Floats load(const float* p, int n, float fill = 0.0f) {
  Floats v;
  if (n == kWidth) {
    __builtin_memcpy(&v, p, sizeof v);
    return v;
  }
  float lanes[kWidth];
  for (int i = 0; i < kWidth; ++i) lanes[i] = i < n ? p[i] : fill;
  __builtin_memcpy(&v, lanes, sizeof v);
  return v;
}

CAUSALMMM_INLINE void store(float* p, Floats v, int n) {
  if (n == kWidth) {
    __builtin_memcpy(p, &v, sizeof v);
    return;
  }
  float lanes[kWidth];
  __builtin_memcpy(lanes, &v, sizeof v);
  for (int i = 0; i < n; ++i) p[i] = lanes[i];
}

CAUSALMMM_INLINE Floats load(const Bfloat16* p, int n, float = 0.0f) {
  Halves h = {};
  if (n == kWidth) {
    __builtin_memcpy(&h, p, sizeof h);
  } else {
    for (int i = 0; i < n; ++i) h[i] = p[i].bits;
  }
  return (Floats)(__builtin_convertvector(h, Bits) << 16);
}

// Rounds to nearest, ties to even; a NaN stays one.
CAUSALMMM_INLINE void store(Bfloat16* p, Floats v, int n) {
  const Bits bits = (Bits)v;
  const Bits rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const Bits quiet = (bits >> 16) | 0x40u;
  const Halves h = __builtin_convertvector((Bits)(v == v ? (Floats)rounded : (Floats)quiet), Halves);
  if (n == kWidth) {
    __builtin_memcpy(p, &h, sizeof h);
    return;
  }
  for (int i = 0; i < n; ++i) p[i].bits = h[i];
}

// --- lanes -----------------------------------------------------------------------------------------

template <int K, int... I>
CAUSALMMM_INLINE Floats shift_later(Floats v, Floats fill, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(v, fill, (I < K ? kWidth + I : I - K)...);
}

template <int K, int... I>
CAUSALMMM_INLINE Floats shift_earlier(Floats v, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(v, Floats{}, (I + K)...);
}

using Lanes = std::make_integer_sequence<int, kWidth>;

// Lane i takes lane i - K; the first K lanes take `fill`.
template <int K>
CAUSALMMM_INLINE Floats later(Floats v, Floats fill = Floats{}) {
  return shift_later<K>(v, fill, Lanes{});
}

// Lane i takes lane i + K; the last K lanes become zero.
template <int K>
CAUSALMMM_INLINE Floats earlier(Floats v) {
  return shift_earlier<K>(v, Lanes{});
}

CAUSALMMM_INLINE float sum(Floats v) {
  float total = 0.0f;
  for (int i = 0; i < kWidth; ++i) total += v[i];
  return total;
}

// --- elementary functions --------------------------------------------------------------------------

CAUSALMMM_INLINE Floats magnitude(Floats v) { return (Floats)((Ints)v & 0x7fffffff); }

CAUSALMMM_INLINE Floats with_sign_of(Floats size, Floats v) {
  return (Floats)((Ints)size | ((Ints)v & (Ints)(Bits{} + 0x80000000u)));
}

CAUSALMMM_INLINE Floats flip_where_negative(Floats size, Floats v) {
  return (Floats)((Ints)size ^ ((Ints)v & (Ints)(Bits{} + 0x80000000u)));
}

// The larger of v and low; v where it is not a number.
CAUSALMMM_INLINE Floats at_least(Floats v, float low) { return splat(low) > v ? splat(low) : v; }

// log2 v = whole + part, v positive and normal; |part| <= 1/2. Kept in two pieces because the
// difference of two such logarithms is then exact in its whole part.
struct Log2 {
  Floats whole, part;
};

CAUSALMMM_INLINE Log2 log2_of(Floats v) {
  const Ints bits = (Ints)v;
  const Ints exponent = (bits - 0x3f3504f3) >> 23;          // relative to sqrt(1/2)
  const Floats f = (Floats)(bits - (exponent << 23)) - 1.0f;  // in [-0.293, 0.414]
  // minimax for log2(1 + f) / f, absolute error of the product 8e-9; short chains, not Horner's long
  // one, because this function's latency is what limits a row
  const Floats f2 = f * f, f4 = f2 * f2;
  const Floats p01 = -0.721347137f * f + 1.4426949f;
  const Floats p23 = -0.360720154f * f + 0.480920653f;
  const Floats p45 = -0.23855063f * f + 0.287693869f;
  const Floats p67 = -0.210060427f * f + 0.217133298f;
  const Floats p = ((0.12569624f * f4 + (p67 * f2 + p45)) * f4) + (p23 * f2 + p01);
  return {__builtin_convertvector(exponent, Floats), p * f};
}

// 2^v for v <= 0; exactly 0 from -127 down.
CAUSALMMM_INLINE Floats exp2_of_negative(Floats v) {
  v = at_least(v, -127.0f);
  const Floats rounder = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to a whole number
  const Floats shifted = v + rounder;
  const Floats f = v - (shifted - rounder);
  const Floats scale = (Floats)(((Ints)shifted << 23) + 0x3f800000);
  // minimax for 2^f on [-1/2, 1/2], relative error 2e-9
  const Floats f2 = f * f;
  const Floats p01 = 0.693147207f * f + 1.0f;
  const Floats p23 = 0.0555032722f * f + 0.240226515f;
  const Floats p45 = 0.00134004317f * f + 0.00961799451f;
  const Floats p = ((0.000154780223f * f2 + p45) * f2 + p23) * f2 + p01;
  return p * scale;
}

}  // namespace
}  // namespace causalmmm
