#pragma once
// The numbers behind classifier augmentation, drawn on the host; kernels/image.h applies them on
// the device. Sample `counter` (epoch x set size + position) has its own draws, whatever the batch.
#include <array>
#include <cstdint>
#include <vector>

namespace realfake {

struct AugmentConfig {
  double rotation_degrees = 10;  // uniform in +- each
  double shift = 0.12;           // of the half width
  double scale = 0.12;
  double shear = 0.1;
  bool flip = false;  // left to right with probability 1/2
  double mixup = 0;   // Beta(alpha, alpha) of the share; 0: off
  double cutmix = 0;  // as mixup, but a box is pasted; with both on, each batch takes one of them
};

// Rows (a b c; d e f) of affine_sample: where in the source a point of the output comes from.
using AffineMatrix = std::array<float, 6>;
AffineMatrix augment_matrix(const AugmentConfig& config, uint64_t seed, uint64_t counter);
bool augment_flip(const AugmentConfig& config, uint64_t seed, uint64_t counter);

struct AugmentBatch {
  std::vector<float> matrices;  // (N,6)
  std::vector<uint8_t> flips;   // (N)
};
AugmentBatch augment_batch(const AugmentConfig& config, uint64_t seed,
                           const std::vector<uint64_t>& counters);

// A rectangle of pixels, [top, bottom) x [left, right).
struct Box {
  int64_t top = 0, bottom = 0, left = 0, right = 0;
  int64_t area() const { return (bottom - top) * (right - left); }
};

// Who is mixed with whom, one share for the batch (as timm's batch mode).
//   mixup : y_n = lambda x_n + (1 - lambda) x_pair(n)
//   cutmix: y_n = x_n but for `box`, which is pair(n)'s; lambda is the share of pixels kept
// Soft targets are lambda t_n + (1 - lambda) t_pair(n) in both cases.
struct MixBatch {
  enum class Kind { none, mixup, cutmix } kind = Kind::none;
  double lambda = 1;
  std::vector<int64_t> pair;  // (N), a permutation of the batch
  Box box;
};
MixBatch mix_batch(const AugmentConfig& config, uint64_t seed, uint64_t batch_counter, int64_t size,
                   int64_t height, int64_t width);
// Pastes the boxes of a cutmix into u8 images (N,H,W,C).
void apply_cutmix(const MixBatch& mix, std::vector<uint8_t>& pixels, int64_t height, int64_t width,
                  int64_t channels);

// y = (x / 255 - mean) / std, by channel.
struct Normalization {
  std::vector<float> mean, std;
};
Normalization symmetric_normalization(int64_t channels);  // [0,255] -> [-1,1]
Normalization imagenet_normalization();
Normalization clip_normalization();
// From the pixels themselves: u8 (N,H,W,C).
Normalization measured_normalization(const std::vector<uint8_t>& pixels, int64_t channels);

}  // namespace realfake
