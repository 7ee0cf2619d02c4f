#pragma once
// Printed digits drawn from the free text fonts of the machine: what the base pipeline is
// pretrained on. Made the way the handwritten set was made: 32x32 black-and-white drawings, counted
// in 4x4 blocks, 17 grey levels, white on black. Handwriting, script and chancery faces are left
// out by name, so the base model has never seen handwriting.
#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace realfake {

// A grey drawing of one glyph, cropped to its box and `Face::height` pixels high. (height, width),
// 0..1.
struct Glyph {
  int64_t width = 0;
  std::vector<float> coverage;
};

struct Face {
  static constexpr int64_t height = 64;
  std::string name;      // full name of the font, or its file name
  std::string outlines;  // sha256 of the ten outlines
  std::array<Glyph, 10> digits;
};

// True for faces that imitate handwriting and for those that are not text faces.
bool is_excluded_face(const std::string& name);

// Distinct faces of the .ttf and .otf files under the folders (those that exist), ordered by name.
// A face whose ten digits are missing, blank or not distinct is left out. UsageError when none is
// left.
std::vector<Face> load_faces(const std::vector<std::filesystem::path>& folders = {
                                 "/usr/share/fonts", "/usr/share/texmf/fonts/opentype"});

constexpr int64_t printed_side = 8;

struct PrintedSample {
  std::array<uint8_t, printed_side * printed_side> pixels{};
  int label = 0;
  std::string caption;  // the whole prompt, "photo of three, thin slanted"
  std::string face;
};

// Sample `index` is a function of (faces, seed, index, richness) only. richness r >= 0 scales the
// affine jitter by (1 + r) and, above 0, bends the drawing by an elastic field of strength 0.07 r.
PrintedSample render_printed_sample(const std::vector<Face>& faces, uint64_t seed, uint64_t index,
                                    double richness);
std::vector<PrintedSample> render_printed(const std::vector<Face>& faces, uint64_t seed,
                                          uint64_t first, int64_t count, double richness);

// As a set of grey images with labels, classes and captions.
ImageSet printed_set(const std::vector<PrintedSample>& samples);

// Writes the small printed set that ships: an IDX pair (split "train"), classes.txt,
// train-captions.txt (one prompt a line) and faces.txt (the faces drawn from).
void write_printed_set(const std::filesystem::path& folder, const std::vector<Face>& faces,
                       uint64_t seed = 0, int64_t count = 1000, double richness = 1.5);

}  // namespace realfake
