#pragma once
// A folder for one test, removed at its end; and the wording of expected errors.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "kernels/base/error.h"
#include "tests/testing/temp_dir.h"

namespace realfake {

class TemporaryFolder : public testing::TempDir {
 public:
  std::filesystem::path write(const std::string& name, std::string_view content) const {
    const std::filesystem::path file = path() / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << content;
    return file;
  }
};

// The call throws an InputError whose message holds each of the texts.
template <class Call, class... Texts>
void expect_input_error(Call call, const Texts&... texts) {
  try {
    call();
    const std::string wanted[] = {std::string(texts)...};
    ADD_FAILURE() << "no error, expected: " << wanted[0];
  } catch (const InputError& error) {
    const std::string message = error.what();
    for (const std::string_view text : {std::string_view(texts)...}) {
      EXPECT_NE(message.find(text), std::string::npos)
          << "found:    " << message << "\nexpected: " << text;
    }
  }
}

}  // namespace realfake
