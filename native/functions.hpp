// The functions of a cell's equations, on vectors of float or double.
//
// One source for every instruction set: a file that includes this is compiled once for each, with RECURRA_ISA for the
// name of its namespace and RECURRA_VECTOR_BYTES for the width of a vector (16, 32 or 64). The results are right with and
// without fused multiply-add, so -ffp-contract=fast may be given; -ffast-math may not.
//
// exp, log, tanh, sigmoid, log_sigmoid and softplus are within 3 units in the last place of the exact result, at every
// float (tests/native/test_functions.py goes through all of them) and on dense samples of double. Infinities, zeros and
// NaN give what PyTorch gives. With one exception subnormal numbers are handled like others: where a result of sigmoid,
// log_sigmoid or softplus is subnormal it may be zero. If the processor is told to flush subnormal numbers, they are zero
// here too and nothing else changes.
//
// No function of the standard library that could be inlined is used: the linker would keep one copy of it, perhaps the
// one for an instruction set that the machine does not have.
#pragma once
#include <cstdint>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#ifndef RECURRA_ISA
#define RECURRA_ISA generic
#endif
#ifndef RECURRA_VECTOR_BYTES
#define RECURRA_VECTOR_BYTES 16
#endif

namespace recurra {
namespace RECURRA_ISA {

// --- what the functions know of float and of double -------------------------------------------------------------------

template <typename T>
struct Format;

// In both: LN2_HIGH has so few digits that its product with an exponent is exact. The polynomials are printed by
// polynomials.py, from the highest power down.
template <>
struct Format<float> {
  typedef uint32_t Whole;  // as many bits
  static constexpr int FRACTION = 23;              // bits of the fraction
  static constexpr Whole BIAS = 127;               // of the exponent
  static constexpr Whole ROOT_HALF = 0x3f3504f3;   // the bits of the square root of 1/2
  static constexpr float LN2_HIGH = 0.693145751953125f, LN2_LOW = 1.4286068203094173e-06f;
  static constexpr float SMALLEST = 0x1p-126f;     // normal number
  static constexpr float EXP_FROM = -104.5f, EXP_TO = 89.0f;         // outside, exp is 0 or infinite
  static constexpr float NORMAL_FROM = -88.0f, NORMAL_TO = 89.0f;    // as far as one factor 2^n goes
  static constexpr float TANH_TO = 10.0f;          // from there on, tanh is 1
  static constexpr float TANH[] = {0.04456378748068318, 0.13381086484356125, 0.3333324369376366, 0.666663079587951, 1.0};
  static constexpr float EXP[] = {0.0013926183587713494, 0.008363179052722578, 0.041666554617204574, 0.16666576989698775,
                                  0.5};
  static constexpr float LOG[] = {0.23330467216303835, 0.28550820815960665, 0.40000121839806124, 0.6666666655449709};
  static constexpr float LOG1P[] = {0.2322432922402335, 0.21706575800880373, 0.28592357994302836, 0.3999970633192972,
                                    0.6666666732052742};
};

template <>
struct Format<double> {
  typedef uint64_t Whole;
  static constexpr int FRACTION = 52;
  static constexpr Whole BIAS = 1023;
  static constexpr Whole ROOT_HALF = 0x3fe6a09e667f3bcd;
  static constexpr double LN2_HIGH = 0.6931471805592082, LN2_LOW = 7.371002565167799e-13;
  static constexpr double SMALLEST = 0x1p-1022;
  static constexpr double EXP_FROM = -746.0, EXP_TO = 710.0;
  static constexpr double NORMAL_FROM = -709.0, NORMAL_TO = 710.0;
  static constexpr double TANH_TO = 20.0;
  static constexpr double TANH[] = {4.283327891064192e-06, 2.5707742212834043e-05, 0.00014109324105272472, 0.0007054657382452844, 0.003174603177670111, 0.012698412719885201, 0.044444444444427994, 0.13333333333321817, 0.33333333333333337, 0.6666666666666669, 1.0};
  static constexpr double EXP[] = {2.0914686968086876e-09, 2.5105217004720745e-08, 2.75572736431103e-07,
                                   2.7557255400206422e-06, 2.4801587325547743e-05, 0.00019841269874820627,
                                   0.0013888888888883748,  0.008333333333326136,   0.04166666666666667,
                                   0.1666666666666667,     0.5};
  static constexpr double LOG[] = {0.13086626147840102, 0.13268773138656886, 0.15386239702814658, 0.18181795640132906,
                                   0.22222222391713917, 0.28571428570803614, 0.4000000000000088,  0.6666666666666666};
  static constexpr double LOG1P[] = {0.15231262619428984, 0.06334110851770246, 0.09942024896554735, 0.10480399234365274,
                                     0.11767997767241035, 0.13333176949138179, 0.15384620253804163, 0.18181818086005655,
                                     0.22222222223331986, 0.2857142857142194,  0.40000000000000013, 0.6666666666666666};
};

// What belongs to a vector of numbers: its format, and the vector of whole numbers with the same bits.
template <typename V>
struct Lane;
typedef float Floats __attribute__((vector_size(RECURRA_VECTOR_BYTES)));
typedef double Doubles __attribute__((vector_size(RECURRA_VECTOR_BYTES)));
template <>
struct Lane<Floats> : Format<float> {
  typedef float Number;
  typedef Whole Bits __attribute__((vector_size(RECURRA_VECTOR_BYTES)));
};
template <>
struct Lane<Doubles> : Format<double> {
  typedef double Number;
  typedef Whole Bits __attribute__((vector_size(RECURRA_VECTOR_BYTES)));
};

// --- parts of functions -----------------------------------------------------------------------------------------------

template <typename V>
inline V all(typename Lane<V>::Number x) {
  return x - V{};
}

// f of each lane by itself.
template <typename V, typename F, typename... More>
inline V by_lane(F f, V x, More... more) {
  for (unsigned i = 0; i < sizeof(V) / sizeof(x[0]); ++i) x[i] = f(x[i], more[i]...);
  return x;
}

template <typename V>
inline V magnitude(V x) {
  typedef typename Lane<V>::Bits B;
  return (V)((B)x & ~(B)all<V>(-0.0));
}

// Magnitude of the first, sign of the second; the first is not negative.
template <typename V>
inline V with_sign(V magnitude, V x) {
  typedef typename Lane<V>::Bits B;
  return (V)((B)magnitude | ((B)x & (B)all<V>(-0.0)));
}

// The second where the two are equal or one is NaN: what x86 has in one instruction, which GCC does not find by itself.
#if defined(__SSE2__)
#if RECURRA_VECTOR_BYTES == 64
#define RECURRA_X86(name, type) _mm512_maskz_##name##_##type(-1, x, y)  // the form without mask sets off a GCC warning
#elif RECURRA_VECTOR_BYTES == 32
#define RECURRA_X86(name, type) _mm256_##name##_##type(x, y)
#else
#define RECURRA_X86(name, type) _mm_##name##_##type(x, y)
#endif
inline Floats larger(Floats x, Floats y) { return (Floats)RECURRA_X86(max, ps); }
inline Floats smaller(Floats x, Floats y) { return (Floats)RECURRA_X86(min, ps); }
inline Doubles larger(Doubles x, Doubles y) { return (Doubles)RECURRA_X86(max, pd); }
inline Doubles smaller(Doubles x, Doubles y) { return (Doubles)RECURRA_X86(min, pd); }
#undef RECURRA_X86
#else
template <typename V>
inline V larger(V x, V y) {
  return x > y ? x : y;
}
template <typename V>
inline V smaller(V x, V y) {
  return x < y ? x : y;
}
#endif

// x brought into an interval; NaN stays.
template <typename V>
inline V at_least(V x, typename Lane<V>::Number least) {
  return larger(all<V>(least), x);
}
template <typename V>
inline V at_most(V x, typename Lane<V>::Number most) {
  return smaller(all<V>(most), x);
}

// A polynomial, its coefficients from the highest power down.
template <typename V, typename T, int N>
inline V polynomial(V x, const T (&coefficients)[N]) {
  V sum = all<V>(coefficients[0]);
  for (int i = 1; i < N; ++i) sum = sum * x + coefficients[i];
  return sum;
}

// 1.5 * 2^FRACTION: a number added to it is rounded to a whole one, which then stands in the lowest bits of the sum.
template <typename V>
constexpr typename Lane<V>::Number rounder() {
  return typename Lane<V>::Number(3) * (typename Lane<V>::Whole(1) << (Lane<V>::FRACTION - 1));
}

// exp(y) = exp(r) 2^n with a whole n and |r| <= ln(2) / 2.
template <typename V>
struct Reduced {
  V r;
  typename Lane<V>::Bits n;  // in the lowest bits, and greater by `offset`; above them, zeros as far as a shift needs them
};
template <typename V>
inline Reduced<V> reduced(V y, int offset) {
  typedef Lane<V> L;
  typedef typename L::Number T;
  const T rounding = rounder<V>() + T(offset);
  const V sum = y * T(1.4426950408889634) + rounding;
  const V n = sum - rounding;
  return {y - n * L::LN2_HIGH - n * L::LN2_LOW, (typename L::Bits)sum};
}

// exp(r), |r| <= ln(2) / 2.
template <typename V>
inline V exp_near_zero(V r) {
  return (polynomial(r, Lane<V>::EXP) * r + 1) * r + 1;
}

// exp(y) for NORMAL_FROM <= y <= NORMAL_TO, or 0 where that is subnormal, or infinity from 2^(BIAS + 1/2) on.
// Its 2^n has for n = -BIAS the bits of 0, and for n = BIAS + 1 those of infinity.
template <typename V>
inline V exp_normal(V y) {
  const Reduced<V> x = reduced(y, Lane<V>::BIAS);
  return exp_near_zero(x.r) * (V)(x.n << Lane<V>::FRACTION);
}

// log(1 + f) where s = f / (2 + f), from log(1 + f) = f - s (f - R), R = s² L(s²), which is exact to first order.
template <typename V, typename T, int N>
inline V log_from(V f, V s, const T (&coefficients)[N]) {
  const V z = s * s;
  return f - s * (f - z * polynomial(z, coefficients));
}

// log(1 + exp(-|x|))
template <typename V>
inline V log1p_exp(V x) {
  const V e = exp_normal(at_least(-magnitude(x), Lane<V>::NORMAL_FROM));
  return log_from(e, e / (e + 2), Lane<V>::LOG1P);
}

// --- the functions ----------------------------------------------------------------------------------------------------

template <typename V>
inline V vabs(V x) {
  return magnitude(x);
}

// 0 for NaN, as in PyTorch.
template <typename V>
inline V vsign(V x) {
  return x > 0 ? all<V>(1) : (x < 0 ? all<V>(-1) : V{});
}

template <typename V>
inline V vfloor(V x) {
  const auto whole = typename Lane<V>::Number(typename Lane<V>::Whole(1) << Lane<V>::FRACTION);  // no fractions from here
  const V nearest = with_sign((magnitude(x) + whole) - whole, x);
  return magnitude(x) < whole ? (nearest > x ? nearest - 1 : nearest) : x;
}

template <typename V>
inline V vsqrt(V x) {
  return by_lane(
      [](auto a) {
        if constexpr (sizeof a == sizeof(float)) return __builtin_sqrtf(a);
        else return __builtin_sqrt(a);
      },
      x);
}

template <typename V>
inline V vrsqrt(V x) {
  return 1 / vsqrt(x);
}

template <typename V>
inline V vexp(V x) {
  typedef Lane<V> L;
  // 2^n as the product of two powers, of which neither overflows nor is subnormal where exp(x) does or is.
  const Reduced<V> y = reduced(at_most(at_least(x, L::EXP_FROM), L::EXP_TO), 2 * L::BIAS);
  const typename L::Bits half = y.n >> 1;
  return exp_near_zero(y.r) * (V)(half << L::FRACTION) * (V)((y.n - half) << L::FRACTION);
}

template <typename V>
inline V vlog(V x) {
  typedef Lane<V> L;
  typedef typename L::Number T;
  typedef typename L::Whole W;
  typedef typename L::Bits B;
  constexpr W one = W(1) << L::FRACTION;  // of the exponent
  const auto subnormal = x < L::SMALLEST;
  // x = m 2^k with m between the square roots of 1/2 and of 2
  const B from_root = (B)(subnormal ? x * T(one) : x) + (L::BIAS * one - L::ROOT_HALF);
  const V m = (V)((from_root & (one - 1)) + L::ROOT_HALF);
  const V k = (V)((from_root >> L::FRACTION) | (B)all<V>(one)) - (subnormal ? all<V>(one + L::BIAS + L::FRACTION) : all<V>(one + L::BIAS));
  const V f = m - 1;
  const V result = k * L::LN2_HIGH + (k * L::LN2_LOW + log_from(f, f / (f + 2), L::LOG));
  const T infinity = __builtin_inf();
  return x > 0 ? (x < infinity ? result : x) : (x == 0 ? all<V>(-infinity) : all<V>(__builtin_nan("")));
}

template <typename V>
inline V vtanh(V x) {
  typedef Lane<V> L;
  typedef typename L::Number T;
  // h / (h + 1) with h = (exp(2a) - 1) / 2 = 2^n (exp(2r) - 1) / 2 + (2^n - 1) / 2, where n = 0 near zero. One constant is
  // enough for ln(2) / 2: what is missing of it counts for nothing where n is so large that it would be seen in r.
  const V a = at_most(magnitude(x), L::TANH_TO);
  const T rounding = rounder<V>() + T(L::BIAS);
  const V sum = a * T(2 * 1.4426950408889634) + rounding;
  const V power = (V)((typename L::Bits)sum << L::FRACTION);
  const V r = a - (sum - rounding) * T(0.34657359027997264);
  const V h = power * (r + r * r * polynomial(r, L::TANH)) + (power * T(0.5) - T(0.5));
  return with_sign(h / (h + 1), x);
}

template <typename V>
inline V vsigmoid(V x) {
  typedef Lane<V> L;
  return 1 / (exp_normal(-at_most(at_least(x, -L::NORMAL_TO), -L::NORMAL_FROM)) + 1);
}

template <typename V>
inline V vlog_sigmoid(V x) {
  return at_most(x, 0) - log1p_exp(x);
}

// From 20 on, x itself, as in PyTorch.
template <typename V>
inline V vsoftplus(V x) {
  return x > 20 ? x : at_least(x, 0) + log1p_exp(x);
}

template <typename V>
inline V vrelu(V x) {
  return at_least(x, 0);
}

// NaN where either is; of two zeros, the second.
template <typename V>
inline V vmaximum(V x, V y) {
  return x != x ? x : larger(x, y);
}
template <typename V>
inline V vminimum(V x, V y) {
  return x != x ? x : smaller(x, y);
}

// Those that are rare in cells: the C library's, lane by lane.

template <typename V>
inline V vsin(V x) {
  return by_lane(
      [](auto a) {
        if constexpr (sizeof a == sizeof(float)) return __builtin_sinf(a);
        else return __builtin_sin(a);
      },
      x);
}

template <typename V>
inline V vcos(V x) {
  return by_lane(
      [](auto a) {
        if constexpr (sizeof a == sizeof(float)) return __builtin_cosf(a);
        else return __builtin_cos(a);
      },
      x);
}

template <typename V>
inline V vpow(V x, V y) {
  return by_lane(
      [](auto a, auto b) {
        if constexpr (sizeof a == sizeof(float)) return __builtin_powf(a, b);
        else return __builtin_pow(a, b);
      },
      x, y);
}

// The rest of x / y rounded down: of y's sign, as in Python.
template <typename V>
inline V vremainder(V x, V y) {
  const V rest = by_lane(
      [](auto a, auto b) {
        if constexpr (sizeof a == sizeof(float)) return __builtin_fmodf(a, b);
        else return __builtin_fmod(a, b);
      },
      x, y);
  return rest != 0 ? ((y < 0) != (rest < 0) ? rest + y : rest) : rest;
}

}  // namespace RECURRA_ISA
}  // namespace recurra
