#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>
#include <numeric>
#include <set>
#include <sstream>

#include "data/captions.h"
#include "data/printed_digits.h"
#include "tests/data/temporary_folder.h"

namespace realfake {
namespace {

// The faces of this machine, read once; none where no fonts are installed.
const std::vector<Face>& faces() {
  static const std::vector<Face> all = [] {
    try {
      return load_faces();
    } catch (const UsageError&) {
      return std::vector<Face>();
    }
  }();
  return all;
}

// A drawn face that needs no font: digit d is d + 1 bars of different widths.
Face bars() {
  Face face;
  face.name = "bars";
  for (size_t d = 0; d < 10; ++d) {
    Glyph& glyph = face.digits[d];
    glyph.width = 40;
    for (int64_t y = 0; y < Face::height; ++y) {
      for (int64_t x = 0; x < glyph.width; ++x) {
        glyph.coverage.push_back(y * static_cast<int64_t>(d + 1) / Face::height % 2 == 0 || x < 8);
      }
    }
  }
  return face;
}

TEST(PrintedDigits, SamplesDependOnSeedAndIndexOnly) {
  const std::vector<Face> one = {bars()};
  for (const double richness : {0.0, 1.5}) {
    const auto all = render_printed(one, 3, 0, 64, richness);
    const auto part = render_printed(one, 3, 40, 10, richness);
    const int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    const auto alone = render_printed(one, 3, 0, 64, richness);
    omp_set_num_threads(threads);
    for (size_t i = 0; i < 64; ++i) {
      EXPECT_EQ(all[i].pixels, alone[i].pixels);
      EXPECT_EQ(all[i].caption, alone[i].caption);
      if (i >= 40 && i < 50) {
        EXPECT_EQ(all[i].pixels, part[i - 40].pixels);
      }
    }
    EXPECT_NE(all[0].pixels, render_printed(one, 4, 0, 1, richness)[0].pixels);
  }
}

TEST(PrintedDigits, SeventeenLevelsWhiteOnBlack) {
  const auto samples = render_printed({bars()}, 0, 0, 200, 1.5);
  std::set<int> levels, legal;
  for (int v = 0; v <= 16; ++v) legal.insert(static_cast<int>(std::lround(v * 255.0 / 16)));
  double corner = 0, middle = 0;
  std::set<int> labels;
  for (const auto& s : samples) {
    labels.insert(s.label);
    levels.insert(s.pixels.begin(), s.pixels.end());
    corner += s.pixels[0] + s.pixels[7] + s.pixels[56] + s.pixels[63];
    middle += s.pixels[27] + s.pixels[28] + s.pixels[35] + s.pixels[36];
    EXPECT_GT(std::accumulate(s.pixels.begin(), s.pixels.end(), 0), 500) << "blank";
  }
  for (const int level : levels) EXPECT_EQ(legal.count(level), 1u) << level;
  EXPECT_LT(corner, middle);
  EXPECT_EQ(labels.size(), 10u);
}

TEST(PrintedDigits, CaptionsUseTheTemplateAndItsWords) {
  const auto samples = render_printed({bars()}, 1, 0, 400, 0.7);
  const std::vector<std::set<std::string>> groups = {
      {"thin", "bold"}, {"slanted", "back-slanted", "upright"}, {"narrow", "wide"}};
  std::vector<int> said(3);
  std::set<std::string> used;
  for (const auto& s : samples) {
    const std::string& name = digit_words()[static_cast<size_t>(s.label)];
    ASSERT_EQ(s.caption.rfind("photo of " + name, 0), 0u) << s.caption;
    std::istringstream rest(caption_of_prompt(s.caption, name));
    for (std::string word; rest >> word;) {
      bool known = false;
      for (size_t g = 0; g < 3; ++g) {
        if (groups[g].count(word)) {
          ++said[g];
          known = true;
        }
      }
      EXPECT_TRUE(known) << s.caption;
      used.insert(word);
    }
  }
  EXPECT_EQ(used.size(), 7u);
  for (const int n : said) EXPECT_NEAR(n, 200, 50);
}

TEST(PrintedDigits, HandwritingIsLeftOutByName) {
  for (const char* name :
       {"Z003-MediumItalic", "TeXGyreChorus-MediumItalic", "URW Chancery L", "Comic Neue",
        "Dancing Script", "StandardSymbolsPS", "Homemade Brush", "D050000L"}) {
    EXPECT_TRUE(is_excluded_face(name)) << name;
  }
  for (const char* name : {"TeXGyreSchola-Regular", "DejaVu Sans", "LMRoman10-Italic",
                           "Courier Prime", "Liberation Sans"}) {
    EXPECT_FALSE(is_excluded_face(name)) << name;
  }
}

TEST(PrintedDigits, FacesAreDistinctAndWhole) {
  if (faces().empty()) GTEST_SKIP() << "no text fonts are installed";
  std::set<std::string> outlines;
  for (const Face& face : faces()) {
    EXPECT_TRUE(outlines.insert(face.outlines).second) << face.name;
    EXPECT_FALSE(is_excluded_face(face.name));
    for (const Glyph& glyph : face.digits) {
      EXPECT_EQ(glyph.coverage.size(), static_cast<size_t>(glyph.width * Face::height));
    }
  }
  const auto a = render_printed(faces(), 0, 0, 50, 1.5),
             b = render_printed(load_faces(), 0, 0, 50, 1.5);
  for (size_t i = 0; i < a.size(); ++i) EXPECT_EQ(a[i].pixels, b[i].pixels);
}

// Nearest class mean: printed and handwritten digits have the same orientation, polarity and place.
TEST(PrintedDigits, MeansOfPrintedDigitsRecogniseHandwriting) {
  const auto shipped = std::filesystem::path(REALFAKE_SOURCE_DIR) / "data";
  const ImageSet print = load_dataset(shipped / "printed"), real = load_dataset(shipped / "digits");
  std::vector<std::array<double, 64>> mean(10);
  std::vector<double> count(10);
  for (size_t i = 0; i < print.labels.size(); ++i) {
    const size_t k = static_cast<size_t>(print.labels[i]);
    ++count[k];
    for (size_t p = 0; p < 64; ++p) mean[k][p] += print.pixels[i * 64 + p];
  }
  int right = 0;
  for (size_t i = 0; i < real.labels.size(); ++i) {
    double best = 1e30;
    int64_t guess = -1;
    for (size_t k = 0; k < 10; ++k) {
      double d = 0;
      for (size_t p = 0; p < 64; ++p) {
        const double e = real.pixels[i * 64 + p] - mean[k][p] / count[k];
        d += e * e;
      }
      if (d < best) best = d, guess = static_cast<int64_t>(k);
    }
    right += guess == real.labels[i];
  }
  RecordProperty("right", right);
  EXPECT_GT(right, 500);  // of 1000; chance is 100
}

TEST(PrintedDigits, SetsAreWrittenAndReadBack) {
  const TemporaryFolder folder;
  write_printed_set(folder.path(), {bars()}, 9, 30, 0.5);
  const ImageSet back = load_dataset(folder.path());
  EXPECT_EQ(back.pixels, printed_set(render_printed({bars()}, 9, 0, 30, 0.5)).pixels);
  EXPECT_EQ(back.captions.size(), 30u);
}

}  // namespace
}  // namespace realfake
