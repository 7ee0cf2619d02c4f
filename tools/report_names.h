#pragma once
// What the names of results.json mean, in words.
#include <string>

namespace realfake {

// "Real-Fake, 2 per real picture" for "realfake_2x"; empty for a name that is not known.
std::string row_label(const std::string& name);
std::string group_label(const std::string& group);
// "real", "base", "fake" or "other": the colour of the row.
const char* row_tone(const std::string& name);

}  // namespace realfake
