#pragma once
// Stream-ordered memory pool. A block given back may be handed out again at once: all work of a
// pool is queued on one stream, so the next user is ordered after the last. Sizes are rounded to
// classes (powers of two and their three-quarter steps) of at least 256 bytes.
//
// In debug mode (REALFAKE_POOL_DEBUG=1, or set_debug) every block lies between guard bands, and is
// filled with 0xFF (a NaN in every floating type) when handed out.
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "kernels/tensor.h"

namespace realfake {

// Raw memory of a device: cpu and emulated use aligned host memory, cuda cudaMalloc.
struct RawMemory {
  void* (*allocate)(size_t bytes);  // nullptr when there is none
  void (*release)(void* p);
  void (*fill)(void* p, int byte, size_t bytes, void* stream);
  void (*copy)(void* to, const void* from, size_t bytes, void* stream);  // any direction; waits
};

class Pool : public std::enable_shared_from_this<Pool> {
 public:
  static constexpr size_t guard_bytes = 4096;
  Pool(Device device, RawMemory memory, void* stream);
  ~Pool();

  std::shared_ptr<Storage> allocate(size_t bytes);
  void give_back(Storage& storage);
  size_t peak_bytes() const { return peak_; }
  Device device() const { return device_; }
  const RawMemory& memory() const { return memory_; }
  void* stream() const { return stream_; }

  static void set_debug(bool on);  // for tests; applies to blocks handed out afterwards
  static bool debug();
  // Number of guard bytes overwritten so far in blocks given back, all pools. Host devices check on
  // give_back.
  static size_t guard_hits();

 private:
  Device device_;
  RawMemory memory_;
  void* stream_;
  std::mutex mutex_;
  std::map<size_t, std::vector<void*>> free_;
  size_t live_ = 0, peak_ = 0;
};

struct Storage {
  std::shared_ptr<Pool> pool;
  void* block = nullptr;  // what the pool owns
  void* data = nullptr;   // what the tensor sees
  size_t bytes = 0, block_bytes = 0;
  bool guarded = false;
  ~Storage();
};

}  // namespace realfake
