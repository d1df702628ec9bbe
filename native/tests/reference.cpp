// How far a vector function is from the exact result: float against double, double against long double.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

namespace {

template <typename Wide>
using Exact = Wide (*)(Wide);

template <typename Wide>
Wide log1p_exp(Wide x) {
  return std::log1p(std::exp(-std::fabs(x)));
}

// The exact function of this name; none where there is none.
template <typename Wide>
Exact<Wide> exact(const std::string& name) {
  if (name == "exp") return [](Wide x) { return std::exp(x); };
  if (name == "log") return [](Wide x) { return std::log(x); };
  if (name == "tanh") return [](Wide x) { return std::tanh(x); };
  if (name == "sigmoid")
    return [](Wide x) {
      const Wide e = std::exp(-std::fabs(x));
      return (x < 0 ? e : 1) / (1 + e);
    };
  if (name == "log_sigmoid") return [](Wide x) { return (x < 0 ? x : 0) - log1p_exp(x); };
  if (name == "softplus") return [](Wide x) { return x > 20 ? x : (x > 0 ? x : 0) + log1p_exp(x); };
  if (name == "sin") return [](Wide x) { return std::sin(x); };
  if (name == "cos") return [](Wide x) { return std::cos(x); };
  if (name == "sqrt") return [](Wide x) { return std::sqrt(x); };
  if (name == "rsqrt") return [](Wide x) { return 1 / std::sqrt(x); };
  if (name == "floor") return [](Wide x) { return std::floor(x); };
  return nullptr;
}

// Units in the last place of T between what was computed and what is right; an infinity counts as the number after the
// greatest one.
template <typename T, typename Wide>
double distance(T got, Wide right, bool zero_allowed) {
  typedef std::numeric_limits<T> Limits;
  const double far = std::numeric_limits<double>::infinity();
  if (std::isnan(right) || std::isnan(got)) return std::isnan(right) && std::isnan(got) ? 0 : far;
  if (zero_allowed && got == 0 && std::fabs(right) < Limits::min()) return 0;
  if (std::signbit(got) != std::signbit(right)) return far;
  const Wide beyond = std::ldexp(Wide(1), Limits::max_exponent);
  const Wide a = std::min(std::fabs(Wide(got)), beyond), b = std::min(std::fabs(right), beyond);
  const int exponent = b == 0 ? Limits::min_exponent : std::max(std::ilogb(b) + 1, Limits::min_exponent);
  return double(std::ldexp(std::fabs(a - b), Limits::digits - exponent));
}

// Whether the distance is surely no greater than one already found: the quick answer for nearly all numbers.
template <typename T, typename Wide>
bool surely_within(double found, T got, Wide right) {
  const Wide apart = std::fabs(Wide(got) - right);
  if (apart < found * std::fabs(right) * (std::numeric_limits<T>::epsilon() / 2)) return true;
  const T nearest = T(right);
  return (found >= 0.5 || (found >= 0 && apart == 0)) && got == nearest && std::signbit(got) == std::signbit(nearest);
}

template <typename T>
using Apply = int (*)(const char*, int, int64_t, T*, const T*, const T*);

struct Worst {
  double distance, at, got, right;
};

// The worst of `applies`, each under its own `flush`, over the count numbers that `number` gives.
template <typename T, typename Wide, typename Number>
int worst(const char* name, int ways, const Apply<T>* applies, const int* flush, int64_t count, Number number,
          Worst* found) {
  constexpr int64_t kBlock = 4096;
  const std::string function = name;
  const Exact<Wide> reference = exact<Wide>(function);
  if (!reference) return 0;
  const bool may_flush = function == "sigmoid" || function == "log_sigmoid" || function == "softplus";
  std::vector<T> x(kBlock), got(kBlock);
  std::vector<Wide> right(kBlock), flushed(kBlock);
  for (int w = 0; w < ways; ++w) found[w] = {-1, 0, 0, 0};
  for (int64_t first = 0; first < count; first += kBlock) {
    const int64_t here = std::min(kBlock, count - first);
    for (int64_t i = 0; i < kBlock; ++i) x[i] = number(first + std::min(i, here - 1));
    for (int64_t i = 0; i < here; ++i) {
      right[i] = flushed[i] = reference(x[i]);
      if (std::fpclassify(x[i]) == FP_SUBNORMAL) flushed[i] = reference(std::copysign(Wide(0), Wide(x[i])));
    }
    for (int w = 0; w < ways; ++w) {
      if (!applies[w](name, flush[w], kBlock, got.data(), x.data(), x.data())) return 0;
      for (int64_t i = 0; i < here; ++i) {
        if (surely_within(found[w].distance, got[i], right[i])) continue;
        double d = distance<T, Wide>(got[i], right[i], may_flush || flush[w]);
        if (flush[w]) d = std::min(d, distance<T, Wide>(got[i], flushed[i], true));
        if (d > found[w].distance) found[w] = {d, double(x[i]), double(got[i]), double(right[i])};
      }
    }
  }
  return 1;
}

}  // namespace

extern "C" {

// Over the floats whose bits are first, first + step, ...
int worst_of_bits(const char* name, int ways, const Apply<float>* applies, const int* flush, uint32_t first,
                  uint32_t step, int64_t count, Worst* found) {
  const auto number = [=](int64_t i) {
    const uint32_t bits = uint32_t(first + uint64_t(i) * step);
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
  };
  return worst<float, double>(name, ways, applies, flush, count, number, found);
}

int worst_of_floats(const char* name, int ways, const Apply<float>* applies, const int* flush, const float* x,
                    int64_t count, Worst* found) {
  return worst<float, double>(name, ways, applies, flush, count, [=](int64_t i) { return x[i]; }, found);
}

int worst_of_doubles(const char* name, int ways, const Apply<double>* applies, const int* flush, const double* x,
                     int64_t count, Worst* found) {
  return worst<double, long double>(name, ways, applies, flush, count, [=](int64_t i) { return x[i]; }, found);
}
}
