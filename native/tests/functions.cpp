// The vector functions over arrays, for one instruction set: what the tests of functions.hpp call.
#include "../functions.hpp"

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace recurra {
namespace RECURRA_ISA {
namespace {

// While it lives, the processor takes and gives subnormal numbers as zeros, as it does inside the core.
class Flushing {
 public:
  explicit Flushing(bool wanted) : before_(control()) {
    if (wanted) set_control(before_ | kFlush);
  }
  ~Flushing() { set_control(before_); }

 private:
#if defined(__SSE__)
  typedef unsigned Control;
  static constexpr Control kFlush = 0x8040;  // flush to zero, denormals are zeros
  static Control control() { return _mm_getcsr(); }
  static void set_control(Control c) { _mm_setcsr(c); }
#elif defined(__aarch64__)
  typedef uint64_t Control;
  static constexpr Control kFlush = 1 << 24;
  static Control control() {
    Control c;
    asm volatile("mrs %0, fpcr" : "=r"(c));
    return c;
  }
  static void set_control(Control c) { asm volatile("msr fpcr, %0" : : "r"(c)); }
#endif
  Control before_;
};

template <typename T>
struct VectorOf {
  typedef T Vector __attribute__((vector_size(RECURRA_VECTOR_BYTES)));
  typedef T Loose __attribute__((vector_size(RECURRA_VECTOR_BYTES), aligned(sizeof(T)), may_alias));
};

template <typename T, typename F, typename... More>
void each(F f, int64_t count, T* out, const T* a, const More*... more) {
  typedef typename VectorOf<T>::Vector V;
  typedef typename VectorOf<T>::Loose Loose;
  constexpr int64_t width = sizeof(V) / sizeof(T);
  for (int64_t i = 0; i < count; i += width)
    *(Loose*)(out + i) = f(V(*(const Loose*)(a + i)), V(*(const Loose*)(more + i))...);
}

template <typename T>
int apply(const char* name, bool flush, int64_t count, T* out, const T* a, const T* b) {
  const Flushing flushing(flush);
#define UNARY(f) \
  if (!__builtin_strcmp(name, #f)) return each([](auto x) { return v##f(x); }, count, out, a), 1;
  UNARY(abs) UNARY(sign) UNARY(floor) UNARY(sqrt) UNARY(rsqrt) UNARY(exp) UNARY(log) UNARY(sin) UNARY(cos)
  UNARY(tanh) UNARY(sigmoid) UNARY(log_sigmoid) UNARY(softplus) UNARY(relu)
#undef UNARY
#define BINARY(f) \
  if (!__builtin_strcmp(name, #f)) return each([](auto x, auto y) { return v##f(x, y); }, count, out, a, b), 1;
  BINARY(maximum) BINARY(minimum) BINARY(pow) BINARY(remainder)
#undef BINARY
  return 0;
}

}  // namespace
}  // namespace RECURRA_ISA
}  // namespace recurra

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
extern "C" {
// out = name(a) or name(a, b), `count` numbers, a whole number of vectors; 0 where there is no function of this name.
int JOIN(float32_, RECURRA_ISA)(const char* name, int flush, int64_t count, float* out, const float* a,
                                const float* b) {
  return recurra::RECURRA_ISA::apply(name, flush, count, out, a, b);
}
int JOIN(float64_, RECURRA_ISA)(const char* name, int flush, int64_t count, double* out, const double* a,
                                const double* b) {
  return recurra::RECURRA_ISA::apply(name, flush, count, out, a, b);
}
}
