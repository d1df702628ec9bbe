// The functions of a cell's equations, on vectors of float or double.
//
// One source for every instruction set: a file that includes this is compiled once for each, with RECURRA_ISA for the
// name of its namespace and RECURRA_VECTOR_BYTES for the width of a vector (16, 32 or 64). The results are right with
// and without fused multiply-add, so -ffp-contract=fast may be given; -ffast-math may not.
//
// exp, log, tanh, sigmoid, log_sigmoid, softplus, sin and cos are within 3 units in the last place of the exact
// result, at every float (tests/native/test_functions.py goes through all of them) and on dense samples of double.
// Infinities, zeros and NaN give what PyTorch gives. With one exception subnormal numbers are handled like others:
// where a result of sigmoid, log_sigmoid or softplus is subnormal it may be zero. If the processor is told to flush
// subnormal numbers, they may be zero here too, and nothing else changes.
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

// --- what the functions know of float and of double ------------------------------------------------------------------

template <typename T>
struct Format;

// In both, kLn2High and the first parts of a quarter turn, pi / 2, have so few digits that their products with the
// whole numbers that occur are exact. The polynomials are printed by polynomials.py, from the highest power down.
template <>
struct Format<float> {
  typedef uint32_t Whole;  // as many bits
  static constexpr int kFraction = 23;  // bits of the fraction
  static constexpr Whole kBias = 127;  // of the exponent
  static constexpr Whole kRootHalf = 0x3f3504f3;  // the bits of the square root of 1/2
  static constexpr float kLn2High = 0.693145751953125f, kLn2Low = 1.4286068203094173e-06f;
  static constexpr float kSmallest = 0x1p-126f;  // normal number
  static constexpr float kExpFrom = -104.5f, kExpTo = 89.0f;  // outside, exp is 0 or infinite
  static constexpr float kNormalFrom = -88.0f, kNormalTo = 89.0f;  // as far as one factor 2^n goes
  static constexpr float kTanhTo = 10.0f;  // from there on, tanh is 1
  static constexpr float kTurnsTo = 6000.0f;  // as far as the parts of a quarter turn are enough
  static constexpr float kQuarter[] = {1.5703125, 0.0004837512969970703, 7.549533620476723e-08, 2.563344151594519e-12};
  static constexpr float kExp[] = {0.0013926183587713494, 0.008363179052722578, 0.041666554617204574,
      0.16666576989698775, 0.5};
  static constexpr float kTanh[] = {0.04456378748068318, 0.13381086484356125, 0.3333324369376366, 0.666663079587951,
      1.0};
  static constexpr float kLog[] = {0.23330467216303835, 0.28550820815960665, 0.40000121839806124, 0.6666666655449709};
  static constexpr float kLog1p[] = {0.2322432922402335, 0.21706575800880373, 0.28592357994302836,
      0.3999970633192972, 0.6666666732052742};
  static constexpr float kSin[] = {-0.00019587840521305324, 0.008332748037517147, -0.16666664661114838};
  static constexpr float kCos[] = {2.454789161981386e-05, -0.0013888302802309161, 0.04166666465830042};
};

template <>
struct Format<double> {
  typedef uint64_t Whole;
  static constexpr int kFraction = 52;
  static constexpr Whole kBias = 1023;
  static constexpr Whole kRootHalf = 0x3fe6a09e667f3bcd;
  static constexpr double kLn2High = 0.6931471805592082, kLn2Low = 7.371002565167799e-13;
  static constexpr double kSmallest = 0x1p-1022;
  static constexpr double kExpFrom = -746.0, kExpTo = 710.0;
  static constexpr double kNormalFrom = -709.0, kNormalTo = 710.0;
  static constexpr double kTanhTo = 20.0;
  static constexpr double kTurnsTo = 1e6;
  static constexpr double kQuarter[] = {1.5707963267341256, 6.077100506303966e-11, 2.0222662487111665e-21,
      8.4784276603689e-32};
  static constexpr double kExp[] = {2.0914686968086876e-09, 2.5105217004720745e-08, 2.75572736431103e-07,
      2.7557255400206422e-06, 2.4801587325547743e-05, 0.00019841269874820627, 0.0013888888888883748,
      0.008333333333326136, 0.04166666666666667, 0.1666666666666667, 0.5};
  static constexpr double kTanh[] = {4.283327891064192e-06, 2.5707742212834043e-05, 0.00014109324105272472,
      0.0007054657382452844, 0.003174603177670111, 0.012698412719885201, 0.044444444444427994, 0.13333333333321817,
      0.33333333333333337, 0.6666666666666669, 1.0};
  static constexpr double kLog[] = {0.13086626147840102, 0.13268773138656886, 0.15386239702814658,
      0.18181795640132906, 0.22222222391713917, 0.28571428570803614, 0.4000000000000088, 0.6666666666666666};
  static constexpr double kLog1p[] = {0.15231262619428984, 0.06334110851770246, 0.09942024896554735,
      0.10480399234365274, 0.11767997767241035, 0.13333176949138179, 0.15384620253804163, 0.18181818086005655,
      0.22222222223331986, 0.2857142857142194, 0.40000000000000013, 0.6666666666666666};
  static constexpr double kSin[] = {1.591810123027412e-10, -2.5051131455427946e-08, 2.755731610068303e-06,
      -0.0001984126983675497, 0.008333333333330946, -0.16666666666666666};
  static constexpr double kCos[] = {-1.1382614868556325e-11, 2.0876146024689747e-09, -2.7557317270560326e-07,
      2.4801587298763433e-05, -0.0013888888888887395, 0.041666666666666664};
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

// --- parts of functions ----------------------------------------------------------------------------------------------

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

// Whether a comparison holds in all lanes.
template <typename M>
inline bool every(M holds) {
  typedef uint64_t Pair __attribute__((vector_size(16)));
  Pair parts[sizeof(M) / sizeof(Pair)];
  __builtin_memcpy(parts, &holds, sizeof holds);
  Pair all = parts[0];
  for (unsigned i = 1; i < sizeof(M) / sizeof(Pair); ++i) all &= parts[i];
  return (all[0] & all[1]) == ~uint64_t(0);
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

// larger and smaller: the second where the two are equal or one is NaN, as one x86 instruction has it, which GCC does
// not find by itself. fused: a b + c, rounded once, where the processor can.
#if defined(__SSE2__)
#if RECURRA_VECTOR_BYTES == 64
#define RECURRA_X86(name, type, ...) _mm512_maskz_##name##_##type(-1, __VA_ARGS__)  // without a mask, GCC 12 warns
#elif RECURRA_VECTOR_BYTES == 32
#define RECURRA_X86(name, type, ...) _mm256_##name##_##type(__VA_ARGS__)
#else
#define RECURRA_X86(name, type, ...) _mm_##name##_##type(__VA_ARGS__)
#endif
inline Floats larger(Floats x, Floats y) { return (Floats)RECURRA_X86(max, ps, x, y); }
inline Floats smaller(Floats x, Floats y) { return (Floats)RECURRA_X86(min, ps, x, y); }
inline Doubles larger(Doubles x, Doubles y) { return (Doubles)RECURRA_X86(max, pd, x, y); }
inline Doubles smaller(Doubles x, Doubles y) { return (Doubles)RECURRA_X86(min, pd, x, y); }
#if defined(__FMA__)
#define RECURRA_FUSED
inline Floats fused(Floats a, Floats b, Floats c) { return (Floats)RECURRA_X86(fmadd, ps, a, b, c); }
inline Doubles fused(Doubles a, Doubles b, Doubles c) { return (Doubles)RECURRA_X86(fmadd, pd, a, b, c); }
#endif
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
#if defined(__ARM_FEATURE_FMA)
#define RECURRA_FUSED
template <typename V>
inline V fused(V a, V b, V c) {
  return by_lane(
      [](auto x, auto y, auto z) {
        if constexpr (sizeof x == sizeof(float)) return __builtin_fmaf(x, y, z);
        else return __builtin_fma(x, y, z);
      },
      a, b, c);
}
#endif
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

// 1.5 * 2^kFraction: a number added to it is rounded to a whole one, which then stands in the lowest bits of the sum.
template <typename V>
constexpr typename Lane<V>::Number rounder() {
  return typename Lane<V>::Number(3) * (typename Lane<V>::Whole(1) << (Lane<V>::kFraction - 1));
}

// exp(y) = exp(r) 2^n with a whole n and |r| <= ln(2) / 2.
template <typename V>
struct Reduced {
  V r;
  typename Lane<V>::Bits n;  // in the lowest bits, and greater by `offset`; above it zeros, of which shifts make use
};
template <typename V>
inline Reduced<V> reduced(V y, int offset) {
  typedef Lane<V> L;
  typedef typename L::Number T;
  const T rounding = rounder<V>() + T(offset);
  const V sum = y * T(1.4426950408889634) + rounding;
  const V n = sum - rounding;
  return {y - n * L::kLn2High - n * L::kLn2Low, (typename L::Bits)sum};
}

// exp(r), |r| <= ln(2) / 2.
template <typename V>
inline V exp_near_zero(V r) {
  return (polynomial(r, Lane<V>::kExp) * r + 1) * r + 1;
}

// exp(y) for kNormalFrom <= y <= kNormalTo, or 0 where that is subnormal, or infinity from 2^(kBias + 1/2) on.
// Its 2^n has for n = -kBias the bits of 0, and for n = kBias + 1 those of infinity.
template <typename V>
inline V exp_normal(V y) {
  const Reduced<V> x = reduced(y, Lane<V>::kBias);
  return exp_near_zero(x.r) * (V)(x.n << Lane<V>::kFraction);
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
  const V e = exp_normal(at_least(-magnitude(x), Lane<V>::kNormalFrom));
  return log_from(e, e / (e + 2), Lane<V>::kLog1p);
}

// sin(x), or cos(x) = sin(x + a quarter turn); by the C library where x is so large that taking whole quarters off it
// needs more digits.
template <typename V, int kQuarters, typename F>
inline V turned(V x, F by_library) {
  typedef Lane<V> L;
  typedef typename L::Number T;
  typedef typename L::Bits B;
  if (!every(magnitude(x) <= L::kTurnsTo)) return by_lane(by_library, x);
  const V sum = x * T(0.6366197723675814) + rounder<V>();
  const V n = sum - rounder<V>();
  const V r = x - n * L::kQuarter[0] - n * L::kQuarter[1] - n * L::kQuarter[2] - n * L::kQuarter[3];
  const V z = r * r;
  const V sine = r * (z * polynomial(z, L::kSin) + 1);
  const V cosine = z * z * polynomial(z, L::kCos) + (1 - z * T(0.5));
  const B quarters = (B)sum + kQuarters;
  const B sign = (quarters >> 1) << (sizeof(T) * 8 - 1);
  return (V)((B)((quarters & 1) == 0 ? sine : cosine) ^ sign);
}

// --- the functions ---------------------------------------------------------------------------------------------------

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
  typedef typename Lane<V>::Number T;
  const T whole = T(typename Lane<V>::Whole(1) << Lane<V>::kFraction);  // from here on, numbers have no fraction
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
  const Reduced<V> y = reduced(at_most(at_least(x, L::kExpFrom), L::kExpTo), 2 * L::kBias);
  const typename L::Bits half = y.n >> 1;
  return exp_near_zero(y.r) * (V)(half << L::kFraction) * (V)((y.n - half) << L::kFraction);
}

template <typename V>
inline V vlog(V x) {
  typedef Lane<V> L;
  typedef typename L::Number T;
  typedef typename L::Whole W;
  typedef typename L::Bits B;
  constexpr W one = W(1) << L::kFraction;  // 1 in the bits of the exponent; as a number, 2^kFraction
  const auto subnormal = x < L::kSmallest;
  // x = m 2^k with m between the square roots of 1/2 and of 2
  const B from_root = (B)(subnormal ? x * T(one) : x) + (L::kBias * one - L::kRootHalf);
  const V m = (V)((from_root & (one - 1)) + L::kRootHalf);
  const V offset = subnormal ? all<V>(one + L::kBias + L::kFraction) : all<V>(one + L::kBias);
  const V k = (V)((from_root >> L::kFraction) | (B)all<V>(one)) - offset;
  const V f = m - 1;
  const V result = k * L::kLn2High + (k * L::kLn2Low + log_from(f, f / (f + 2), L::kLog));
  const T infinity = __builtin_inf();
  return x > 0 ? (x < infinity ? result : x) : (x == 0 ? all<V>(-infinity) : all<V>(__builtin_nan("")));
}

template <typename V>
inline V vtanh(V x) {
  typedef Lane<V> L;
  typedef typename L::Number T;
  // h / (h + 1) with h = (exp(2a) - 1) / 2 = 2^n (exp(2r) - 1) / 2 + (2^n - 1) / 2, where n = 0 near zero. ln(2) / 2 in
  // one part is enough: where n is so large that its missing digits matter to r, r hardly matters to the result.
  const V a = at_most(magnitude(x), L::kTanhTo);
  const T rounding = rounder<V>() + T(L::kBias);
  const V sum = a * T(2 * 1.4426950408889634) + rounding;
  const V power = (V)((typename L::Bits)sum << L::kFraction);
  const V r = a - (sum - rounding) * T(0.34657359027997264);
  const V h = power * (r + r * r * polynomial(r, L::kTanh)) + (power * T(0.5) - T(0.5));
  return with_sign(h / (h + 1), x);
}

template <typename V>
inline V vsigmoid(V x) {
  typedef Lane<V> L;
  return 1 / (exp_normal(-at_most(at_least(x, -L::kNormalTo), -L::kNormalFrom)) + 1);
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

template <typename V>
inline V vsin(V x) {
  return turned<V, 0>(x, [](auto a) {
    if constexpr (sizeof a == sizeof(float)) return __builtin_sinf(a);
    else return __builtin_sin(a);
  });
}

template <typename V>
inline V vcos(V x) {
  return turned<V, 1>(x, [](auto a) {
    if constexpr (sizeof a == sizeof(float)) return __builtin_cosf(a);
    else return __builtin_cos(a);
  });
}

// The rest of x / y rounded down: of y's sign, as in Python; the C library's where that takes more than one step.
template <typename V>
inline V vremainder(V x, V y) {
#ifdef RECURRA_FUSED
  typedef typename Lane<V>::Number T;
  const T whole = T(typename Lane<V>::Whole(1) << (Lane<V>::kFraction - 1));
  const V quotient = x / y;
  if (every(magnitude(quotient) < whole) && every(magnitude(y) < T(__builtin_inf()))) {
    // A quotient a little under a whole number may have been rounded up to it; a rest of the wrong sign tells. With the
    // right quotient the rest is exact, since it is rounded but once.
    const V down = vfloor(quotient);
    const V first = fused(-down, y, x);
    const V rest = (((first < 0) != (y < 0)) & (first != 0)) ? fused(1 - down, y, x) : first;
    return rest == 0 ? with_sign(V{}, x) : rest;
  }
#endif
  const V rest = by_lane(
      [](auto a, auto b) {
        if constexpr (sizeof a == sizeof(float)) return __builtin_fmodf(a, b);
        else return __builtin_fmod(a, b);
      },
      x, y);
  return (((y < 0) != (rest < 0)) & (rest != 0)) ? rest + y : rest;
}

// The C library's, lane by lane: rare in cells.
template <typename V>
inline V vpow(V x, V y) {
  return by_lane(
      [](auto a, auto b) {
        if constexpr (sizeof a == sizeof(float)) return __builtin_powf(a, b);
        else return __builtin_pow(a, b);
      },
      x, y);
}

}  // namespace RECURRA_ISA
}  // namespace recurra
