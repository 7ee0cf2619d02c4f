#pragma once
// Runs CUDA kernel bodies on the host, one block after the other: each CUDA thread is a fibre (a
// stack of its own, switched by hand). It exists to prove kernels where there is no GPU; nothing of
// the CUDA toolkit is needed.
//
// Scheduling is greedy by warp: one warp runs until each of its lanes is done or waits at a block
// barrier, then the next warp, in ascending or descending order. A missing __syncthreads() then
// shows as a wrong result in one of the two orders, because a whole warp runs ahead (round-robin
// hides such faults). Shared memory is filled with 0xFF (NaN) before each block and lies between
// guard bands; barriers that not all threads reach, and shuffles that lanes of the mask miss, are
// errors that name the place.
//
// Not covered: tensor cores, memory-model reordering, races between blocks, timing.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>

#define RF_KERNEL inline
#define RF_DEVICE inline
#define RF_SHARED(T, name, count)      \
  static const char rf_tag_##name = 0; \
  T* const name = static_cast<T*>(     \
      ::realfake::emulator::shared_array(&rf_tag_##name, sizeof(T) * static_cast<size_t>(count)))
#define RF_DYNAMIC_SHARED(T, name) \
  T* const name = static_cast<T*>(::realfake::emulator::dynamic_shared())

namespace realfake::emulator {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr Dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

enum class Order { ascending, descending };
void set_order(
    Order);  // of warps and of lanes in a warp; default ascending or REALFAKE_EMULATOR_ORDER
Order order();

// Runs `thread` once for each thread of each block. std::logic_error on a barrier or shuffle fault,
// a guard band hit or an impossible launch.
void run(Dim3 grid, Dim3 block, size_t shared_bytes, const std::function<void()>& thread);

// For kernels, through the macros and functions below.
void* shared_array(const void* tag, size_t bytes);
void* dynamic_shared();
void block_barrier(const char* file, int line);
void warp_barrier(uint32_t mask, const char* file, int line);
// Gives `bits` to the warp, waits for the lanes of `mask`, returns the bits of `source` (own bits
// if out of the warp).
uint64_t exchange(uint32_t mask, uint64_t bits, int source, const char* file, int line);
int lane();

extern constinit thread_local Dim3 threadIdx, blockIdx, blockDim, gridDim;

template <class T>
T exchange_value(uint32_t mask, T v, int source, const char* file, int line) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
  uint64_t bits = 0;
  std::memcpy(&bits, &v, sizeof(T));
  bits = exchange(mask, bits, source, file, line);
  std::memcpy(&v, &bits, sizeof(T));
  return v;
}

}  // namespace realfake::emulator

// CUDA's names, where the kernels look for them.
namespace realfake::emulated {

using dim3 = emulator::Dim3;
using emulator::blockDim;
using emulator::blockIdx;
using emulator::gridDim;
using emulator::threadIdx;

inline void __syncthreads(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  emulator::block_barrier(file, line);
}
inline void __syncwarp(uint32_t mask = 0xffffffffu, const char* file = __builtin_FILE(),
                       int line = __builtin_LINE()) {
  emulator::warp_barrier(mask, file, line);
}
template <class T>
T __shfl_sync(uint32_t mask, T v, int source, const char* file = __builtin_FILE(),
              int line = __builtin_LINE()) {
  return emulator::exchange_value(mask, v, source % 32, file, line);
}
template <class T>
T __shfl_xor_sync(uint32_t mask, T v, int bits, const char* file = __builtin_FILE(),
                  int line = __builtin_LINE()) {
  return emulator::exchange_value(mask, v, emulator::lane() ^ bits, file, line);
}
template <class T>
T __shfl_down_sync(uint32_t mask, T v, int delta, const char* file = __builtin_FILE(),
                   int line = __builtin_LINE()) {
  return emulator::exchange_value(mask, v, emulator::lane() + delta, file, line);
}
template <class T>
T __shfl_up_sync(uint32_t mask, T v, int delta, const char* file = __builtin_FILE(),
                 int line = __builtin_LINE()) {
  return emulator::exchange_value(mask, v, emulator::lane() - delta, file, line);
}

inline float rsqrtf(float x) {
  return 1.0f / std::sqrt(x);
}
inline float __expf(float x) {
  return std::exp(x);
}
inline float __logf(float x) {
  return std::log(x);
}
inline void sincosf(float x, float* s, float* c) {
  *s = std::sin(x);
  *c = std::cos(x);
}
template <class T>
T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
T max(T a, T b) {
  return a < b ? b : a;
}

}  // namespace realfake::emulated
