#include "data/fonts.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <map>
#include <set>

#include "kernels/base/error.h"
#include "kernels/base/file.h"
#include "kernels/base/sha256.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#define STBTT_STATIC
#define STB_TRUETYPE_IMPLEMENTATION
#include <stb_truetype.h>
#pragma GCC diagnostic pop

namespace realfake {
namespace {

constexpr uint64_t max_font_bytes = uint64_t{64} << 20;

std::string lower_letters(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (std::isalnum(static_cast<unsigned char>(c))) {
      out += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
  }
  return out;
}

// The font's full name (name table, id 4), ASCII part; empty when it has none.
std::string full_name(const stbtt_fontinfo& font) {
  int bytes = 0;
  std::string name;
  if (const char* wide = stbtt_GetFontNameString(&font, &bytes, 3, 1, 0x409, 4)) {
    for (int i = 0; i + 1 < bytes; i += 2) {  // UTF-16, big-endian
      if (wide[i] == 0 && wide[i + 1] >= ' ') name += wide[i + 1];
    }
  } else if (const char* mac = stbtt_GetFontNameString(&font, &bytes, 1, 0, 0, 4)) {
    for (int i = 0; i < bytes; ++i) {
      if (mac[i] >= ' ') name += mac[i];
    }
  }
  return name;
}

struct Outline {
  std::string bytes;  // vertices relative to the glyph's box: equal for equal drawings
  int x0 = 0, y0 = 0, x1 = 0, y1 = 0;
};

std::optional<Outline> outline_of(const stbtt_fontinfo& font, int digit) {
  const int glyph = stbtt_FindGlyphIndex(&font, '0' + digit);
  if (glyph == 0) return std::nullopt;
  Outline o;
  if (!stbtt_GetGlyphBox(&font, glyph, &o.x0, &o.y0, &o.x1, &o.y1)) return std::nullopt;
  if (o.x1 <= o.x0 || o.y1 <= o.y0) return std::nullopt;
  stbtt_vertex* vertices = nullptr;
  const int n = stbtt_GetGlyphShape(&font, glyph, &vertices);
  for (int i = 0; i < n; ++i) {
    const stbtt_vertex& v = vertices[i];
    // Not cubics' control points alone: unused fields of lines are not set by the reader.
    o.bytes += concat(int(v.type), ' ', v.x - o.x0, ' ', v.y - o.y0, ' ');
    if (v.type == STBTT_vcurve || v.type == STBTT_vcubic)
      o.bytes += concat(v.cx - o.x0, ' ', v.cy - o.y0, ' ');
  }
  stbtt_FreeShape(&font, vertices);
  if (n < 3) return std::nullopt;
  return o;
}

Glyph draw(const stbtt_fontinfo& font, int digit, const Outline& o) {
  const float scale = static_cast<float>(Face::height) / static_cast<float>(o.y1 - o.y0);
  const int64_t width = std::max<int64_t>(
      1, static_cast<int64_t>(std::ceil(static_cast<float>(o.x1 - o.x0) * scale)));
  // One pixel of room on each side: the box in pixels may start between two pixels.
  const int canvas_w = static_cast<int>(width) + 2, canvas_h = static_cast<int>(Face::height) + 2;
  int ix0 = 0, iy0 = 0, ix1 = 0, iy1 = 0;
  stbtt_GetCodepointBitmapBox(&font, '0' + digit, scale, scale, &ix0, &iy0, &ix1, &iy1);
  std::vector<unsigned char> canvas(static_cast<size_t>(canvas_w) * static_cast<size_t>(canvas_h));
  // The shift moves the box to a pixel edge.
  const float shift_x = static_cast<float>(ix0) - static_cast<float>(o.x0) * scale;
  const float shift_y = static_cast<float>(iy0) + static_cast<float>(o.y1) * scale;
  stbtt_MakeCodepointBitmapSubpixel(&font, canvas.data(), canvas_w, canvas_h, canvas_w, scale,
                                    scale, shift_x, shift_y, '0' + digit);
  Glyph glyph{width, {}};
  for (int64_t y = 0; y < Face::height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      glyph.coverage.push_back(static_cast<float>(canvas[static_cast<size_t>(y * canvas_w + x)]) /
                               255.0f);
    }
  }
  return glyph;
}

}  // namespace

bool is_excluded_face(const std::string& name) {
  // Imitations of handwriting, script, chancery and comic faces; then faces that are not for text.
  static constexpr std::array words = {
      "script",   "handwrit",    "handlett",   "schoolhand",  "chancer",    "chorus",
      "z003",     "callig",      "cursive",    "brush",       "comic",      "kristi",
      "pacifico", "dancing",     "lobster",    "zapfino",     "caveat",     "kalam",
      "scribble", "tomson",      "marker",     "signature",   "purisa",     "jester",
      "humor",    "domestic",    "isabella",   "rufscript",   "breip",      "daniel",
      "jsmath",   "kaushan",     "greatvibes", "allura",      "sacramento", "satisfy",
      "amatic",   "indieflower", "shadows",    "patrickhand", "symbol",     "dingbat",
      "d050000l", "keyboard",    "initials",   "emoji",       "icon",       "awesome",
      "ornament", "stixnonuni",  "stixint",    "stixsiz",     "stixvar",    "musix",
      "barcode",  "braille"};
  const std::string letters = lower_letters(name);
  return std::any_of(words.begin(), words.end(),
                     [&](const char* word) { return letters.find(word) != std::string::npos; });
}

std::optional<Face> read_face(const std::filesystem::path& path) {
  if (is_excluded_face(path.stem().string())) return std::nullopt;
  const std::string bytes = read_file(path, max_font_bytes);
  const auto* data = reinterpret_cast<const unsigned char*>(bytes.data());
  stbtt_fontinfo font;
  const int offset = bytes.size() < 1024 ? -1 : stbtt_GetFontOffsetForIndex(data, 0);
  if (offset < 0 || !stbtt_InitFont(&font, data, offset)) return std::nullopt;
  Face face;
  face.name = full_name(font);
  if (face.name.empty()) face.name = path.stem().string();
  if (is_excluded_face(face.name)) return std::nullopt;
  std::set<std::string> distinct;
  Sha256 hash;
  for (int digit = 0; digit < 10; ++digit) {
    const std::optional<Outline> outline = outline_of(font, digit);
    if (!outline || !distinct.insert(outline->bytes).second) return std::nullopt;
    hash.update(outline->bytes.data(), outline->bytes.size());
    hash.update("|", 1);
    Glyph glyph = draw(font, digit, *outline);
    const float most = *std::max_element(glyph.coverage.begin(), glyph.coverage.end());
    if (most < 0.5f || glyph.width > 3 * Face::height) return std::nullopt;
    face.digits[static_cast<size_t>(digit)] = std::move(glyph);
  }
  face.outlines = hash.hex();
  return face;
}

std::vector<Face> load_faces(const std::vector<std::filesystem::path>& folders) {
  std::vector<std::filesystem::path> files;
  for (const auto& folder : folders) {
    std::error_code none;
    for (auto it = std::filesystem::recursive_directory_iterator(
             folder, std::filesystem::directory_options::skip_permission_denied, none);
         it != std::filesystem::recursive_directory_iterator(); it.increment(none)) {
      const std::string extension = lower_letters(it->path().extension().string());
      if ((extension == "ttf" || extension == "otf") && it->is_regular_file(none)) {
        files.push_back(it->path());
      }
    }
  }
  std::sort(files.begin(), files.end());
  std::vector<std::optional<Face>> read(files.size());
#pragma omp parallel for schedule(dynamic)
  for (size_t i = 0; i < files.size(); ++i) {
    try {
      read[i] = read_face(files[i]);
    } catch (const Error&) {
      read[i].reset();  // a font that cannot be read is no face; the others are enough
    }
  }
  // Equal outlines under several names (packages share fonts): the first name stays.
  std::map<std::string, Face> by_name;
  std::set<std::string> seen;
  for (auto& face : read) {
    if (face && seen.insert(face->outlines).second) {
      by_name.emplace(face->name + '\n' + face->outlines, std::move(*face));
    }
  }
  std::vector<Face> faces;
  for (auto& [name, face] : by_name) faces.push_back(std::move(face));
  if (faces.empty()) {
    throw UsageError(
        "no text fonts found: install them with `make fonts`, or use the printed set that ships");
  }
  return faces;
}

}  // namespace realfake
