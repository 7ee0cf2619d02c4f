#pragma once
// Kernels of kernels/random.h. One thread per Philox block: four elements of one sample.
#include "kernels/cuda/access.cuh"
#include "kernels/philox.h"

namespace realfake::RF_BACKEND {

// What a kernel draws, and for which samples: `numbers[n]`, or first + n where there are none.
struct Draw {
  uint64_t seed, first;
  const int64_t* numbers;
  uint32_t stream;
};

template <class T>
RF_KERNEL void random_kernel(Rows<T> out, Draw draw, bool normal, int64_t samples,
                             int64_t per_sample) {
  const int64_t blocks = (per_sample + 3) / 4;
  for (int64_t n = blockIdx.y; n < samples; n += gridDim.y) {
    const uint64_t sample = draw.numbers ? static_cast<uint64_t>(draw.numbers[n])
                                         : draw.first + static_cast<uint64_t>(n);
    for (int64_t block = grid_first(); block < blocks; block += grid_step()) {
      const PhiloxBlock bits =
          philox_block(draw.seed, draw.stream, sample, static_cast<uint32_t>(block));
      float v[4];
      if (normal) {
        philox_normal_pair(bits.w[0], bits.w[1], &v[0], &v[1]);
        philox_normal_pair(bits.w[2], bits.w[3], &v[2], &v[3]);
      } else {
        for (int k = 0; k < 4; ++k) v[k] = philox_uniform(bits.w[k]);
      }
      for (int k = 0; k < 4; ++k)
        if (block * 4 + k < per_sample)
          element(out, n * per_sample + block * 4 + k) = static_cast<T>(v[k]);
    }
  }
}

}  // namespace realfake::RF_BACKEND
