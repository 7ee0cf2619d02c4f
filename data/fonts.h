#pragma once
// Outlines of font files, read through stb_truetype. That reader trusts offsets inside the file, so
// only font files installed on the machine are given to it, never files of a user's data set.
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "data/printed_digits.h"

namespace realfake {

// The face of a font file, or nothing when it is no usable text face (see load_faces).
std::optional<Face> read_face(const std::filesystem::path& path);

}  // namespace realfake
