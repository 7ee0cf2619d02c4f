// The commands of the pipeline one after another, as a person runs them, and what they say when
// something is wrong.
#include <gtest/gtest.h>

#include "data/manifest.h"
#include "kernels/base/json.h"
#include "tests/tools/run_program.h"
#include "tests/train/tiny_pipeline.h"

namespace realfake::testing {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

Outcome run(Words words, const Words& more = {}) {
  words.insert(words.end(), more.begin(), more.end());
  words.insert(words.end(), {"--threads", "1"});
  return run_program(words);
}

Words embed_words(const fs::path& out) {
  return {"embed",        "--model", Tiny::get().pipeline, "--train_data_dir", Tiny::get().data,
          "--output_dir", out};
}
Words finetune_words(const fs::path& embedded, const fs::path& out) {
  return {"finetune",
          "--model",
          Tiny::get().pipeline,
          "--embedded",
          embedded,
          "--output_dir",
          out,
          "--max_train_steps",
          "4",
          "--train_batch_size",
          "3"};
}
Words generate_words(const fs::path& embedded, const fs::path& out) {
  return {"generate",     "--model", Tiny::get().pipeline,    "--embedded", embedded,
          "--output_dir", out,       "--num_inference_steps", "4"};
}
Words train_words(const fs::path& data, const fs::path& out) {
  return {"train", "--train_data_dir", data, "--output_dir", out, "--max_train_steps",
          "5",     "--batch_size",     "6"};
}

void expect_ends(const Outcome& o, int code, const std::string& said) {
  EXPECT_EQ(o.code, code) << o.err;
  expect_says(o.err, "error: ");
  expect_says(o.err, said);
  EXPECT_EQ(o.err.find("internal"), std::string::npos) << o.err;
}

TEST(Pipeline, FromPicturesToAnAccuracy) {
  const TempDir dir;
  const fs::path embedded = dir / "embed/embedded.safetensors",
                 lora = dir / "lora/pytorch_lora_weights.safetensors";
  Outcome o = run(embed_words(dir / "embed"));
  ASSERT_EQ(o.code, 0) << o.err;
  expect_says(o.out, "12 images embedded");
  o = run(finetune_words(embedded, dir / "lora"));
  ASSERT_EQ(o.code, 0) << o.err;
  expect_says(o.out, "steps: 4");
  o = run(generate_words(embedded, dir / "set"), {"--lora", lora, "--grey", "--versions", "2"});
  ASSERT_EQ(o.code, 0) << o.err;
  expect_says(o.out, "24 images written, 0 were there");
  o = run(generate_words(embedded, dir / "set"), {"--lora", lora, "--grey", "--versions", "2"});
  expect_says(o.out, "0 images written, 24 were there");
  o = run(train_words(dir / "set", dir / "classifier"));
  ASSERT_EQ(o.code, 0) << o.err;
  expect_says(o.out, "trained on 24 images");
  o = run({"evaluate", "--model", dir / "classifier", "--data_dir", Tiny::get().data, "--json",
           dir / "result.json"});
  ASSERT_EQ(o.code, 0) << o.err;
  for (const char* part :
       {"top-1 ", "top-5 100.00 %", "calibration error ", "images 6", "zero", "(", " of 2)"})
    expect_says(o.out, part);
  const Json result = read_json(dir / "result.json");
  EXPECT_EQ(result["count"], 6);
  EXPECT_EQ(result["classes"].size(), 3u);
  EXPECT_EQ(result["classes"][2]["name"], "two");
  for (const char* key : {"top1", "top5", "loss", "calibration_error"})
    EXPECT_TRUE(result[key].is_number()) << key;
  for (const char* run_folder : {"embed", "lora", "set", "classifier"})
    for (const char* file : {"config.toml", "metrics.jsonl", "summary.csv"})
      EXPECT_TRUE(fs::exists(dir / run_folder / file)) << run_folder << "/" << file;
}

TEST(Pipeline, EmbedRunsTwiceToEqualBytes) {
  const TempDir dir;
  ASSERT_EQ(run(embed_words(dir / "a")).code, 0);
  ASSERT_EQ(run(embed_words(dir / "b")).code, 0);
  EXPECT_EQ(read_text(dir / "a/embedded.safetensors"), read_text(dir / "b/embedded.safetensors"));
}

TEST(Pipeline, ShardsOfTwoProcessesMakeOneSet) {
  const TempDir dir;
  const Tiny& t = Tiny::get();
  ASSERT_EQ(run(generate_words(t.embedded_file, dir / "whole"), {"--batch_size", "4"}).code, 0);
  for (const char* shard : {"0/2", "1/2"}) {
    const Outcome o = run(generate_words(t.embedded_file, dir / "parts"),
                          {"--batch_size", "4", "--shard", shard});
    ASSERT_EQ(o.code, 0) << o.err;
  }
  for (int64_t i = 0; i < 12; ++i)
    EXPECT_EQ(read_text(dir / "whole" / DatasetWriter::file_name(i)),
              read_text(dir / "parts" / DatasetWriter::file_name(i)));
  EXPECT_EQ(load_dataset(dir / "parts").size(), 12);
  for (const char* shard : {"2/2", "-1/2", "0/0", "1", "a/b", "0/2x"})
    expect_ends(run(generate_words(t.embedded_file, dir / "none"), {"--shard", shard}), 2,
                "--shard");
  EXPECT_FALSE(fs::exists(dir / "none"));
}

TEST(Pipeline, DamagedOrForeignEmbeddings) {
  const TempDir dir;
  const Tiny& t = Tiny::get();
  const fs::path file = dir / "e.safetensors";
  const auto both = [&](const std::string& said) {
    expect_ends(run(finetune_words(file, dir / "lora")), 3, said);
    expect_ends(run(generate_words(file, dir / "set")), 3, said);
  };
  fs::copy(t.embedded_file, file);
  flip_bit(file, -3000);
  both("checksum mismatch in '");
  put_bytes(file, bytes_of(t.embedded_file).substr(0, 4000));
  both("e.safetensors");
  fs::copy(t.pipeline / "vae/diffusion_pytorch_model.safetensors", file,
           fs::copy_options::overwrite_existing);
  both("no checksums");
  fs::remove(file);
  both("e.safetensors");
  // Made with the networks of another pipeline.
  fs::copy(t.pipeline, dir / "base", fs::copy_options::recursive);
  flip_bit(dir / "base/text_encoder/model.safetensors", -6);
  Words words = finetune_words(t.embedded_file, dir / "lora");
  words[2] = dir / "base";
  expect_ends(run(words), 3, "run `realfake embed` again");
  EXPECT_FALSE(fs::exists(dir / "lora/pytorch_lora_weights.safetensors"));
}

TEST(Pipeline, ValuesThatAreNotFinite) {
  const TempDir dir;
  const Tiny& t = Tiny::get();
  Exec& ex = exec_of(Device::cpu);
  Embedded e = t.embedded;
  std::vector<float> v = ex.to_vector<float>(e.moments);
  v[5] = NAN;
  e.moments = ex.from_vector(v, e.moments.shape());
  save_embedded(e, ex, dir / "nan.safetensors", "key");
  expect_ends(run(finetune_words(dir / "nan.safetensors", dir / "lora")), 3, "moments");
  for (float& x : v) x = 3e38f;  // finite, until they are added
  e.moments = ex.from_vector(v, e.moments.shape());
  save_embedded(e, ex, dir / "huge.safetensors", "key");
  expect_ends(run(finetune_words(dir / "huge.safetensors", dir / "lora")), 6,
              "finetune: step 1: loss is");
  EXPECT_FALSE(fs::exists(dir / "lora/pytorch_lora_weights.safetensors"));
  expect_ends(run(generate_words(dir / "huge.safetensors", dir / "set")), 6, "image 0");
  EXPECT_TRUE(fs::is_empty(dir / "set/images"));
}

TEST(Pipeline, ClassesAreGuarded) {
  const TempDir dir;
  const Tiny& t = Tiny::get();
  ASSERT_EQ(run(train_words(t.data, dir / "classifier")).code, 0);
  fs::copy(t.data, dir / "other", fs::copy_options::recursive);
  fs::remove(dir / "other/classes.sha256");
  write_classes(dir / "other", {"zero", "two", "one"});
  expect_ends(run({"evaluate", "--model", dir / "classifier", "--data_dir", dir / "other"}), 3,
              "classes");
  expect_ends(
      run({"train", "--train_data_dir", t.data, dir / "other", "--output_dir", dir / "joined"}), 3,
      "class");
  write_classes(dir / "other", {"zero", "one"});  // a label without a name
  expect_ends(run(train_words(dir / "other", dir / "none")), 3, "label");
  expect_ends(run(embed_words(dir / "x"), {"--split", "none"}), 3, "none");
  expect_ends(run({"evaluate", "--model", t.pipeline / "vae", "--data_dir", t.data}), 3, "vae");
}

TEST(Pipeline, AFileWhereTheFolderShouldBe) {
  const TempDir dir;
  const Tiny& t = Tiny::get();
  const fs::path file = dir / "file";
  put_bytes(file, "");
  expect_ends(run(embed_words(file)), 4, "file");
  expect_ends(run(finetune_words(t.embedded_file, file)), 4, "file");
  expect_ends(run(generate_words(t.embedded_file, file)), 4, "file");
  expect_ends(run(train_words(t.data, file)), 4, "file");
  expect_ends(run(train_words(t.data, file / "below")), 4, "file");
  ASSERT_EQ(run(train_words(t.data, dir / "classifier")).code, 0);
  expect_ends(run({"evaluate", "--model", dir / "classifier", "--data_dir", t.data, "--json",
                   file / "r.json"}),
              4, "file");
  // A folder where a file should be: nothing of it is replaced.
  fs::create_directories(dir / "run/pytorch_lora_weights.safetensors/inside");
  expect_ends(run(finetune_words(t.embedded_file, dir / "run")), 4,
              "pytorch_lora_weights.safetensors");
  fs::create_directories(dir / "set/images/000003.png/inside");
  expect_ends(run(generate_words(t.embedded_file, dir / "set")), 4, "000003.png");
}

TEST(Pipeline, AFullDiskIsSaidAndLeavesWhatWasThere) {
  // A limit on the size of files stands for the full disk: write() then fails in the same place.
  const TempDir dir;
  const Tiny& t = Tiny::get();
  ASSERT_EQ(run(embed_words(dir / "embed")).code, 0);
  const std::string before = read_text(dir / "embed/embedded.safetensors");
  const fs::path config = dir / "embed/config.toml";
  std::string command = "ulimit -f 8; trap '' XFSZ; exec '" + std::string(REALFAKE_PROGRAM) +
                        "' embed --model '" + t.pipeline.string() + "' --train_data_dir '" +
                        t.data.string() + "' --output_dir '" + (dir / "embed").string() +
                        "' --threads 1 2>'" + (dir / "err").string() + "'";
  const int status = std::system(("bash -c \"" + command + "\"").c_str());
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 4) << read_text(dir / "err");
  expect_says(read_text(dir / "err"), "embedded.safetensors");
  EXPECT_EQ(read_text(dir / "embed/embedded.safetensors"), before);
  for (const auto& entry : fs::directory_iterator(dir / "embed"))
    EXPECT_NE(entry.path().extension(), ".tmp");
}

}  // namespace
}  // namespace realfake::testing
