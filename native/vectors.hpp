// Vectors of the instruction set that a file is compiled for, and how they are read and written.
#pragma once
#include <algorithm>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#ifndef RECURRA_ISA
#define RECURRA_ISA generic
#endif
#ifndef RECURRA_VECTOR_BYTES
#define RECURRA_VECTOR_BYTES 16
#endif
#define RECURRA_TEXT_(x) #x
#define RECURRA_TEXT(x) RECURRA_TEXT_(x)

namespace recurra {
namespace RECURRA_ISA {

template <typename T>
struct Lanes;
template <>
struct Lanes<float> {
  typedef float vector __attribute__((vector_size(RECURRA_VECTOR_BYTES)));
  typedef float loose __attribute__((vector_size(RECURRA_VECTOR_BYTES), aligned(4), may_alias));
};
template <>
struct Lanes<double> {
  typedef double vector __attribute__((vector_size(RECURRA_VECTOR_BYTES)));
  typedef double loose __attribute__((vector_size(RECURRA_VECTOR_BYTES), aligned(8), may_alias));
};

template <typename T>
constexpr int kLanes = RECURRA_VECTOR_BYTES / sizeof(T);
template <typename T>
using Vector = typename Lanes<T>::vector;

template <typename T>
inline Vector<T> load(const T* p) {
  return *reinterpret_cast<const typename Lanes<T>::loose*>(p);
}
template <typename T>
inline void store(T* p, Vector<T> v) {
  *reinterpret_cast<typename Lanes<T>::loose*>(p) = v;
}
template <typename T>
inline Vector<T> spread(T x) {
  return x - Vector<T>{};
}

// Fewer numbers than a vector holds: the others are zero, and are not written.
template <typename T>
inline Vector<T> load_some(const T* p, int count) {
#if defined(__AVX512F__) && RECURRA_VECTOR_BYTES == 64
  if constexpr (sizeof(T) == 4)
    return reinterpret_cast<Vector<T>>(_mm512_maskz_loadu_ps(__mmask16((1u << count) - 1), p));
  else
    return reinterpret_cast<Vector<T>>(_mm512_maskz_loadu_pd(__mmask8((1u << count) - 1), p));
#else
  T numbers[kLanes<T>] = {};
  std::copy_n(p, count, numbers);
  return load(numbers);
#endif
}
template <typename T>
inline void store_some(T* p, Vector<T> v, int count) {
#if defined(__AVX512F__) && RECURRA_VECTOR_BYTES == 64
  if constexpr (sizeof(T) == 4)
    _mm512_mask_storeu_ps(p, __mmask16((1u << count) - 1), reinterpret_cast<__m512>(v));
  else
    _mm512_mask_storeu_pd(p, __mmask8((1u << count) - 1), reinterpret_cast<__m512d>(v));
#else
  T numbers[kLanes<T>];
  store(numbers, v);
  std::copy_n(numbers, count, p);
#endif
}

}  // namespace RECURRA_ISA
}  // namespace recurra
