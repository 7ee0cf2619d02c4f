// `verify tokenize`: the token ids of prompts, one a line.
#include "kernels/base/file.h"
#include "model/tokenizer.h"
#include "tools/commands.h"
#include "tools/verify_tensors.h"

namespace realfake {
namespace {

struct VerifyTokenize {
  std::filesystem::path tokenizer, in, out;

  void declare(Options& o) {
    o.path("tokenizer", &tokenizer, "folder with vocab.json and merges.txt").required();
    o.path("in", &in, "text file, one prompt a line; an empty line is an empty prompt").required();
    o.path("out", &out, "safetensors file to write: input_ids").required();
  }

  int run() const {
    const Tokenizer t = Tokenizer::load(component_folder(tokenizer, "tokenizer"));
    const std::string text = read_file(in, 64 << 20);
    std::vector<int64_t> ids;
    int64_t lines = 0;
    for (size_t begin = 0; begin < text.size(); ++lines) {
      size_t end = text.find('\n', begin);
      if (end == std::string::npos) end = text.size();
      try {
        const std::vector<int64_t> line =
            t.encode(std::string_view(text).substr(begin, end - begin));
        ids.insert(ids.end(), line.begin(), line.end());
      } catch (const InputError& e) {
        throw InputError(concat(printable(in.string()), ": line ", lines + 1, ": ", e.what()));
      }
      begin = end + 1;
    }
    if (lines == 0)
      throw InputError(
          concat(printable(in.string()), ": found no line, expected one prompt a line"));
    VerifyOutput y;
    y.integers("input_ids", {lines, t.max_length()}, ids);
    y.write(out);
    return 0;
  }
};

}  // namespace

Command make_verify_tokenize_command() {
  const auto self = std::make_shared<VerifyTokenize>();
  return {
      "verify tokenize", "the token ids of prompts",
      "realfake verify tokenize --tokenizer sd15/tokenizer --in prompts.txt --out ids.safetensors",
      [self](Options& o) { self->declare(o); }, [self](const Options&) { return self->run(); }};
}

}  // namespace realfake
