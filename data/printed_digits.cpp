#include "data/printed_digits.h"

#include <algorithm>
#include <cmath>

#include "data/captions.h"
#include "kernels/base/error.h"
#include "kernels/base/file.h"
#include "kernels/random.h"

namespace realfake {
namespace {

constexpr int side = 32;       // of the black-and-white drawing
constexpr int block = 4;       // counted per output pixel
constexpr int oversample = 2;  // samples per axis and pixel of the drawing
constexpr int grid = 4;        // control points of the elastic field per axis
constexpr float half = side / 2.0f;

// A normal draw kept within 2.5 deviations: an extreme one would push the digit out of the frame.
float jitter(Philox& random, float deviation) {
  return std::clamp(random.normal(), -2.5f, 2.5f) * deviation;
}

struct Jitter {
  float rotation, shear, width, height, shift_x, shift_y, blur, weight;
  std::array<float, 2 * grid * grid> elastic{};
};

// Fixed order of draws: it is part of what a sample number means.
Jitter draw_jitter(Philox& random, double richness) {
  const float r = static_cast<float>(richness), scale = 1.0f + r;
  Jitter j;
  j.rotation = jitter(random, 0.07f * scale);
  j.shear = jitter(random, 0.12f * scale);
  j.width = std::exp(jitter(random, 0.10f * scale));
  j.height = 1.0f - std::abs(jitter(random, 0.04f * scale));
  j.shift_x = jitter(random, 0.06f * scale);
  j.shift_y = jitter(random, 0.03f * scale);
  j.blur = 0.8f + 0.8f * random.uniform();
  j.weight = jitter(random, 1.0f);
  for (float& e : j.elastic) {
    const float z = random.normal();
    e = r > 0 ? 0.07f * r * z : 0.0f;
  }
  return j;
}

float bicubic_weight(float x) {  // a = -0.75
  constexpr float a = -0.75f;
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

// The elastic field at a point of [-1,1]^2, edges repeated.
std::array<float, 2> elastic_at(const Jitter& j, float u, float v) {
  const float gx = (u + 1) * 0.5f * grid - 0.5f, gy = (v + 1) * 0.5f * grid - 0.5f;
  const int x0 = static_cast<int>(std::floor(gx)), y0 = static_cast<int>(std::floor(gy));
  std::array<float, 2> sum{};
  for (int dy = -1; dy <= 2; ++dy) {
    for (int dx = -1; dx <= 2; ++dx) {
      const float w = bicubic_weight(gx - static_cast<float>(x0 + dx)) *
                      bicubic_weight(gy - static_cast<float>(y0 + dy));
      const size_t at = static_cast<size_t>(std::clamp(y0 + dy, 0, grid - 1) * grid +
                                            std::clamp(x0 + dx, 0, grid - 1));
      sum[0] += w * j.elastic[at];
      sum[1] += w * j.elastic[at + grid * grid];
    }
  }
  return sum;
}

// Bilinear, zero outside.
float sample(const Glyph& glyph, float x, float y) {
  const float fx = std::floor(x), fy = std::floor(y);
  const int64_t x0 = static_cast<int64_t>(fx), y0 = static_cast<int64_t>(fy);
  float sum = 0;
  for (int64_t dy = 0; dy < 2; ++dy) {
    for (int64_t dx = 0; dx < 2; ++dx) {
      const int64_t px = x0 + dx, py = y0 + dy;
      if (px < 0 || py < 0 || px >= glyph.width || py >= Face::height) continue;
      const float wx = dx ? x - fx : 1 - (x - fx), wy = dy ? y - fy : 1 - (y - fy);
      sum += wx * wy * glyph.coverage[static_cast<size_t>(py * glyph.width + px)];
    }
  }
  return sum;
}

using Drawing = std::array<float, side * side>;

// The glyph under jitter: for each pixel the point of the upright glyph that lands there.
Drawing warp(const Glyph& glyph, const Jitter& j) {
  const float aspect = static_cast<float>(glyph.width) / static_cast<float>(Face::height);
  // Half extents in [-1,1] units of the frame; very wide glyphs are narrowed to fit.
  const float half_width = std::min(aspect * j.width, 0.98f), half_height = j.height;
  const float c = std::cos(j.rotation), s = std::sin(j.rotation);
  Drawing out{};
  for (int y = 0; y < side; ++y) {
    for (int x = 0; x < side; ++x) {
      const float px = static_cast<float>(x), py = static_cast<float>(y);
      // The field is smooth: one value serves all samples of a pixel.
      const auto bend = elastic_at(j, (px + 0.5f) / half - 1, (py + 0.5f) / half - 1);
      float sum = 0;
      for (int k = 0; k < oversample * oversample; ++k) {
        const float dx = (static_cast<float>(k % oversample) + 0.5f) / oversample;
        const float dy = (static_cast<float>(k / oversample) + 0.5f) / oversample;
        const float u = (px + dx) / half - 1 + bend[0] - j.shift_x;
        const float v = (py + dy) / half - 1 + bend[1] - j.shift_y;
        const float ru = c * u + s * v, rv = -s * u + c * v;
        const float gu = (ru + j.shear * rv) / half_width, gv = rv / half_height;
        sum += sample(glyph, (gu + 1) * 0.5f * static_cast<float>(glyph.width) - 0.5f,
                      (gv + 1) * 0.5f * static_cast<float>(Face::height) - 0.5f);
      }
      out[static_cast<size_t>(y * side + x)] = sum / (oversample * oversample);
    }
  }
  return out;
}

Drawing blurred(const Drawing& in, float sigma) {
  constexpr int radius = 4;
  std::array<float, 2 * radius + 1> weight;
  float total = 0;
  for (int k = -radius; k <= radius; ++k) {
    const float d = static_cast<float>(k) / sigma;
    total += weight[static_cast<size_t>(k + radius)] = std::exp(-0.5f * d * d);
  }
  Drawing once{}, twice{};
  for (int pass = 0; pass < 2; ++pass) {
    const Drawing& from = pass == 0 ? in : once;
    Drawing& to = pass == 0 ? once : twice;
    const int along = pass == 0 ? 1 : side, across = pass == 0 ? side : 1;
    for (int row = 0; row < side; ++row) {
      for (int i = 0; i < side; ++i) {
        float sum = 0;
        for (int k = std::max(-radius, -i); k <= std::min(radius, side - 1 - i); ++k) {
          sum += weight[static_cast<size_t>(k + radius)] *
                 from[static_cast<size_t>(row * across + (i + k) * along)];
        }
        to[static_cast<size_t>(row * across + i * along)] = sum / total;
      }
    }
  }
  return twice;
}

// What the jitter did, in words, each said with probability 1/2.
std::string words_of(const Jitter& j, Philox& random) {
  // Slant as seen: a shear to the right and a turn clockwise both lean the top to the right.
  const float slant = j.shear + j.rotation;
  const std::array words = {j.weight < 0 ? "thin" : "bold",
                            slant > 0.08f    ? "slanted"
                            : slant < -0.08f ? "back-slanted"
                                             : "upright",
                            j.width < 1 ? "narrow" : "wide"};
  std::string said;
  for (const char* word : words) {
    if (random.uniform() >= 0.5f) continue;
    if (!said.empty()) said += ' ';
    said += word;
  }
  return said;
}

}  // namespace

PrintedSample render_printed_sample(const std::vector<Face>& faces, uint64_t seed, uint64_t index,
                                    double richness) {
  require(!faces.empty(), "[render_printed] no faces");
  require(richness >= 0 && richness <= 4, "[render_printed] richness ", richness);
  Philox random(seed, Stream::render, index);
  PrintedSample out;
  out.label = static_cast<int>(random.below(10));
  const Face& face = faces[random.below(static_cast<uint32_t>(faces.size()))];
  const Jitter j = draw_jitter(random, richness);
  const Glyph& glyph = face.digits[static_cast<size_t>(out.label)];
  const Drawing soft = blurred(warp(glyph, j), j.blur);
  // Relative to the drawing's own maximum: with a fixed threshold thin faces vanish. Above 0.45 the
  // hairlines of faces with thick and thin strokes would go, and a 0 would become two bars.
  const float most = *std::max_element(soft.begin(), soft.end());
  const float threshold = most * std::min(0.36f - 0.09f * j.weight, 0.45f);
  std::array<int, printed_side * printed_side> counts{};
  for (int y = 0; y < side; ++y) {
    for (int x = 0; x < side; ++x) {
      counts[static_cast<size_t>(y / block * printed_side + x / block)] +=
          soft[static_cast<size_t>(y * side + x)] > threshold;
    }
  }
  for (size_t i = 0; i < counts.size(); ++i) {
    out.pixels[i] = static_cast<uint8_t>(std::lround(counts[i] * 255.0 / (block * block)));
  }
  Philox choice(seed, Stream::caption, index);
  out.caption = make_prompt(digit_words()[static_cast<size_t>(out.label)], words_of(j, choice));
  out.face = face.name;
  return out;
}

std::vector<PrintedSample> render_printed(const std::vector<Face>& faces, uint64_t seed,
                                          uint64_t first, int64_t count, double richness) {
  require(count >= 0, "[render_printed] count ", count);
  require(!faces.empty() && richness >= 0 && richness <= 4, "[render_printed] ", faces.size(),
          " faces, richness ", richness);
  std::vector<PrintedSample> samples(static_cast<size_t>(count));
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < count; ++i) {
    samples[static_cast<size_t>(i)] =
        render_printed_sample(faces, seed, first + static_cast<uint64_t>(i), richness);
  }
  return samples;
}

ImageSet printed_set(const std::vector<PrintedSample>& samples) {
  ImageSet set;
  set.height = set.width = printed_side;
  set.channels = 1;
  set.classes = digit_words();
  for (const PrintedSample& s : samples) {
    set.pixels.insert(set.pixels.end(), s.pixels.begin(), s.pixels.end());
    set.labels.push_back(s.label);
    set.captions.push_back(s.caption);
    set.names.push_back(s.face);
  }
  return set;
}

void write_printed_set(const std::filesystem::path& folder, const std::vector<Face>& faces,
                       uint64_t seed, int64_t count, double richness) {
  const ImageSet set = printed_set(render_printed(faces, seed, 0, count, richness));
  std::filesystem::create_directories(folder);
  write_idx(folder, "train", set);
  std::string names;
  for (const Face& face : faces) names += face.name + '\n';
  write_file_atomic(folder / "faces.txt", names);
}

}  // namespace realfake
