#pragma once
// Loops over threads. The number of parts depends on the thread count, so a body must give the same
// bytes however its range is cut; sums across a range go through `Chunks`, whose cuts are fixed by
// the sizes alone.
#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace realfake::cpu {

// Iterations of about `cost` operations each that are worth starting a thread for.
inline int64_t grain_of(int64_t cost) {
  constexpr int64_t worth = 1 << 15;
  return std::max<int64_t>(1, worth / std::max<int64_t>(1, cost));
}

// fn(begin, end) over parts of [0, n), at least `grain` iterations each; serial when one part is
// enough or when already inside a parallel region. The OpenMP region holds nothing but the call:
// GCC outlines it before it clones functions, so hot loops belong in an RF_CLONES function called
// from `fn`.
template <class F>
void parallel_for(int64_t n, int64_t grain, F&& fn) {
  if (n <= 0) return;
  grain = std::max<int64_t>(1, grain);
  const int64_t wanted = (n + grain - 1) / grain;
  const int64_t parts = std::min<int64_t>(omp_in_parallel() ? 1 : omp_get_max_threads(), wanted);
  if (parts <= 1) {
    fn(int64_t{0}, n);
    return;
  }
#pragma omp parallel for num_threads(static_cast <int>(parts)) schedule(static, 1)
  for (int64_t i = 0; i < parts; ++i) fn(n * i / parts, n * (i + 1) / parts);
}

// A fixed cut of n rows into at most 64 chunks of at least `least` rows: partial sums per chunk,
// added in order of the chunks, give equal bytes at any thread count.
struct Chunks {
  Chunks(int64_t n, int64_t least) : n(n) {
    count = std::clamp<int64_t>(n / std::max<int64_t>(1, least), 1, 64);
  }
  int64_t begin(int64_t i) const { return n * i / count; }
  int64_t end(int64_t i) const { return n * (i + 1) / count; }
  int64_t n, count;
};

// Scratch memory of this thread, kept between calls; each Slot is one buffer, 64-byte aligned. The
// content is undefined. A slot must not be asked for again while its buffer is in use.
template <class T, int Slot = 0>
T* scratch(int64_t n) {
  thread_local std::vector<T> buffer;
  constexpr size_t slack = 64 / sizeof(T);
  const size_t wanted = static_cast<size_t>(n) + slack;
  if (buffer.size() < wanted) {
    buffer.clear();  // nothing to move
    buffer.resize(wanted);
  }
  auto address = reinterpret_cast<uintptr_t>(buffer.data());
  return reinterpret_cast<T*>((address + 63) / 64 * 64);
}

}  // namespace realfake::cpu
