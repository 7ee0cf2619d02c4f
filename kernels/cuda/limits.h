#pragma once
// Limits of a launch, checked before it, on a GPU and under the emulator alike (no CUDA types
// here).
#include <cstddef>
#include <cstdint>

#include "kernels/base/error.h"

namespace realfake {

constexpr int64_t kMaxBlockThreads = 1024;
constexpr int64_t kMaxBlockZ = 64;
constexpr int64_t kMaxGridX = 2147483647;
constexpr int64_t kMaxGridYZ = 65535;
constexpr size_t kMaxSharedBytes = 227 * 1024;  // sm_90; less elsewhere, where the runtime says so

// Dim is dim3 or anything with x, y, z.
template <class Dim>
void check_launch_limits(const Dim& grid, const Dim& block, size_t shared_bytes) {
  const int64_t gx = grid.x, gy = grid.y, gz = grid.z, bx = block.x, by = block.y, bz = block.z;
  require(bx >= 1 && by >= 1 && bz >= 1 && bz <= kMaxBlockZ && bx <= kMaxBlockThreads &&
              by <= kMaxBlockThreads && bx * by * bz <= kMaxBlockThreads,
          "[launch] block (", bx, ",", by, ",", bz, ") is outside 1.. ", kMaxBlockThreads,
          " threads, z <= ", kMaxBlockZ);
  require(gx >= 1 && gy >= 1 && gz >= 1 && gx <= kMaxGridX && gy <= kMaxGridYZ && gz <= kMaxGridYZ,
          "[launch] grid (", gx, ",", gy, ",", gz, ") is outside x <= ", kMaxGridX,
          ", y and z <= ", kMaxGridYZ);
  require(shared_bytes <= kMaxSharedBytes, "[launch] ", shared_bytes,
          " bytes of shared memory, at most ", kMaxSharedBytes);
}

}  // namespace realfake
