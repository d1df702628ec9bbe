// Memory that begins with a line of the cache.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

namespace recurra {

constexpr size_t kAlignment = 64;

// Zeros, aligned to a line of the cache.
class Buffer {
 public:
  explicit Buffer(size_t bytes = 0) : bytes_(bytes), own_(new char[bytes + kAlignment]()) {
    const auto address = reinterpret_cast<uintptr_t>(own_.get());
    data_ = own_.get() + (kAlignment - address % kAlignment) % kAlignment;
  }
  char* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  size_t bytes_;
  std::unique_ptr<char[]> own_;
  char* data_;
};

}  // namespace recurra
