#include "kernels/philox.h"

#include <numeric>

#include "kernels/random.h"

namespace realfake {

Philox::Philox(uint64_t seed, Stream stream, uint64_t sample)
    : seed_(seed), sample_(sample), stream_(static_cast<uint32_t>(stream)) {}

void Philox::refill() {
  const PhiloxBlock block = philox_block(seed_, stream_, sample_, block_++);
  for (int i = 0; i < 4; ++i) out_[i] = block.w[i];
  next_ = 0;
}

uint32_t Philox::u32() {
  if (next_ == 4) refill();
  return out_[next_++];
}

float Philox::uniform() {
  return philox_uniform(u32());
}

float Philox::normal() {
  if (pending_next_ == 4) {
    refill();  // normals use whole blocks, as random_normal does
    philox_normal_pair(out_[0], out_[1], &pending_[0], &pending_[1]);
    philox_normal_pair(out_[2], out_[3], &pending_[2], &pending_[3]);
    next_ = 4;
    pending_next_ = 0;
  }
  return pending_[pending_next_++];
}

// Multiply and keep the high word; low words below 2^32 mod n are drawn again (Lemire 2019).
uint32_t Philox::below(uint32_t n) {
  require(n > 0, "[Philox::below] expected n > 0, got 0");
  uint64_t product = static_cast<uint64_t>(u32()) * n;
  if (static_cast<uint32_t>(product) < n) {
    const uint32_t threshold = (0u - n) % n;
    while (static_cast<uint32_t>(product) < threshold) product = static_cast<uint64_t>(u32()) * n;
  }
  return static_cast<uint32_t>(product >> 32);
}

std::vector<int64_t> permutation(int64_t n, uint64_t seed, Stream stream, uint64_t epoch) {
  require(n >= 0 && n <= int64_t{0xFFFFFFFF}, "[permutation] expected 0 <= n < 2^32, got ", n);
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), int64_t{0});
  Philox random(seed, stream, epoch);
  for (int64_t i = n - 1; i > 0; --i)
    std::swap(order[static_cast<size_t>(i)], order[random.below(static_cast<uint32_t>(i + 1))]);
  return order;
}

}  // namespace realfake
