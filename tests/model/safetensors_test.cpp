// The weight reader against the named bad files of the format, their valid twins, and its own
// writer.
#include "model/safetensors.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <limits>

#include "kernels/base/error.h"
#include "kernels/base/file.h"
#include "tests/testing/temp_dir.h"

namespace realfake {
namespace {

using testing::TempDir;

std::string with_length(uint64_t length, const std::string& rest) {
  std::string text(8, '\0');
  std::memcpy(text.data(), &length, 8);
  return text + rest;
}

// A file of `header` and `bytes` of data.
std::string weights(const std::string& header, size_t bytes) {
  return with_length(header.size(), header + std::string(bytes, '\0'));
}

std::string tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                   const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape +
         ",\"data_offsets\":" + offsets + "}";
}
std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return "{" + tensor("a", dtype, shape, offsets) + "}";
}

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const InputError& error) {
    return error.what();
  } catch (const std::exception& error) {
    return std::string("(another error) ") + error.what();
  }
  return "(no error)";
}

std::string repeated(const std::string& text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

struct BadFile {
  const char* name;
  std::string content;
  std::string core;
};

TEST(Safetensors, RefusesBadFilesByName) {
  const std::string good = one("F32", "[2,2]", "[0,16]");
  const std::string integer = "tensor 'a': shape[0] is not an integer in 0..2^63-1";
  const BadFile cases[] = {
      {"st-empty", "", "empty file"},
      {"st-short7", "1234567", "7 bytes; a header length needs 8"},
      {"st-only-length", with_length(0, ""), "header is not a JSON object (it is empty)"},
      {"st-len-2e63", with_length(1ull << 63, "{}"),
       "header length 9223372036854775808 exceeds the limit 100000000"},
      {"st-len-cap+1", with_length(100000001, "{}"),
       "header length 100000001 exceeds the limit 100000000"},
      {"st-len-cap", with_length(100000000, "{}"),
       "header ends at byte 100000008 but the file has 10"},
      {"st-len-past-eof", with_length(1000000, "{" + std::string(5111, ' ')),
       "header ends at byte 1000008 but the file has 5120 (incomplete download?)"},
      {"st-not-json", weights("hello", 0), "header is not a JSON object (byte 8 is 0x68)"},
      {"st-array-top", weights("[1]", 0), "header is not a JSON object (byte 8 is 0x5b)"},
      {"st-bom", weights("\xef\xbb\xbf{}", 0), "header is not a JSON object (byte 8 is 0xef)"},
      {"st-leading-space", weights(" {}", 0), "header is not a JSON object (byte 8 is 0x20)"},
      {"st-broken-json", weights("{\"a\" 1}", 0),
       "header: found number literal, expected ':' at column 6"},
      {"st-nul-padding", weights(std::string("{}\0\0", 4), 0), "a NUL in JSON text at byte 10"},
      {"st-two-objects", weights("{}{}", 0),
       "header: found '{', expected end of input at column 3"},
      {"st-bad-utf8", weights("{\"" + std::string(81, 'x') + "\xff\":1}", 0),
       "invalid UTF-8 in header at byte 91"},
      {"st-deep-100k", weights(repeated("{", 100000), 0), "JSON nested deeper than 64 at byte 72"},
      {"st-deep-value", weights("{\"a\":" + repeated("[", 100000), 0),
       "JSON nested deeper than 64 at byte 76"},
      {"st-dup-name",
       weights(
           "{" + tensor("a", "U8", "[1]", "[0,1]") + "," + tensor("a", "U8", "[1]", "[1,2]") + "}",
           2),
       "tensor 'a' appears twice"},
      {"st-dup-key",
       weights("{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}",
               1),
       "tensor 'a': 'dtype' appears twice"},
      {"st-dup-metadata", weights("{\"__metadata__\":{},\"__metadata__\":{}}", 0),
       "__metadata__ appears twice"},
      {"st-shape-wrap", weights(one("F32", "[4294967296,4294967296]", "[0,0]"), 0),
       "tensor 'a': shape product overflows"},
      {"st-shape-wrap-bits", weights(one("F64", "[288230376151711744]", "[0,0]"), 0),
       "tensor 'a': shape product overflows"},
      {"st-shape-neg", weights(one("F32", "[-1]", "[0,4]"), 4), integer},
      {"st-shape-float", weights(one("F32", "[1.5]", "[0,4]"), 4), integer},
      {"st-shape-string", weights(one("F32", "[\"1\"]", "[0,4]"), 4), integer},
      {"st-shape-1e400", weights(one("F32", "[1e400]", "[0,4]"), 4), integer},
      {"st-shape-2e64", weights(one("F32", "[18446744073709551616]", "[0,4]"), 4), integer},
      {"st-shape-2e63", weights(one("F32", "[9223372036854775808]", "[0,4]"), 4), integer},
      {"st-shape-nested", weights(one("F32", "[[1]]", "[0,4]"), 4), integer},
      {"st-shape-null", weights(one("F32", "null", "[0,4]"), 4), "tensor 'a': 'shape' is null"},
      {"st-rank-1000", weights(one("F32", "[1" + repeated(",1", 999) + "]", "[0,4]"), 4),
       "tensor 'a': rank 1000 exceeds 8"},
      {"st-rank-9", weights(one("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4),
       "tensor 'a': rank 9 exceeds 8"},
      {"st-size-mismatch-less", weights(one("F32", "[2,2]", "[0,12]"), 12),
       "tensor 'a': F32 [2,2] needs 16 bytes, offsets give 12"},
      {"st-size-mismatch-more", weights(one("F32", "[2,2]", "[0,20]"), 20),
       "tensor 'a': F32 [2,2] needs 16 bytes, offsets give 20"},
      {"st-half-byte", weights(one("F4", "[3]", "[0,1]"), 1),
       "tensor 'a': F4 [3] does not fill whole bytes"},
      {"st-overlap",
       weights("{" + tensor("a", "F32", "[4]", "[0,16]") + "," +
                   tensor("b", "F32", "[2]", "[8,16]") + "}",
               16),
       "tensor 'b': data starts at 8, expected 16"},
      {"st-hole",
       weights("{" + tensor("a", "F32", "[4]", "[0,16]") + "," +
                   tensor("b", "F32", "[2]", "[20,28]") + "}",
               28),
       "tensor 'b': data starts at 20, expected 16"},
      {"st-first-not-0", weights(one("F32", "[1]", "[4,8]"), 8),
       "tensor 'a': data starts at 4, expected 0"},
      {"st-begin-gt-end", weights(one("F32", "[4]", "[24,8]"), 24),
       "tensor 'a': bad data_offsets [24,8]"},
      {"st-off-wrap", weights(one("F32", "[4]", "[0,18446744073709551615]"), 16),
       "tensor 'a': bad data_offsets [0,18446744073709551615]"},
      {"st-one-offset", weights(one("F32", "[4]", "[16]"), 16),
       "tensor 'a': bad data_offsets [16]"},
      {"st-three-offsets", weights(one("F32", "[4]", "[0,16,16]"), 16),
       "tensor 'a': bad data_offsets [0,16,16]"},
      {"st-off-neg", weights(one("F32", "[4]", "[-16,0]"), 16),
       "tensor 'a': bad data_offsets [-16,0]"},
      {"st-off-1e400", weights(one("F32", "[4]", "[0,1e400]"), 16),
       "tensor 'a': bad data_offsets [1e400]"},
      {"st-data-short", weights(one("U8", "[4000]", "[0,4000]"), 3900),
       "tensor data ends at byte 4067, file at 3967 (incomplete download?)"},
      {"st-trailing", weights(good, 17), ": 1 byte after the last tensor"},
      {"st-trailing-empty", weights("{}", 3), ": 3 bytes after the last tensor"},
      {"st-dtype-unknown", weights(one("F7", "[1]", "[0,4]"), 4), "tensor 'a': unknown dtype 'F7'"},
      {"st-dtype-lower", weights(one("f32", "[1]", "[0,4]"), 4), "tensor 'a': unknown dtype 'f32'"},
      {"st-no-shape", weights("{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1),
       "tensor 'a': no 'shape'"},
      {"st-unknown-key", weights("{\"a\":{\"strides\":[1]}}", 0),
       "tensor 'a': unknown key 'strides'"},
      {"st-tensor-number", weights("{\"a\":1}", 0), "tensor 'a': found 1, expected an object"},
      {"st-meta-not-string", weights("{\"__metadata__\":{\"x\":1}}", 0),
       "__metadata__['x'] is not a string"},
      {"st-meta-nested", weights("{\"__metadata__\":{\"x\":{}}}", 0),
       "__metadata__['x'] is not a string"},
      {"st-meta-array", weights("{\"__metadata__\":[]}", 0), "__metadata__ is not an object"},
      {"st-name-4097", weights("{\"" + std::string(4097, 'n') + "\":{}}", 0),
       "a tensor name has 4097 bytes"},
      {"st-escape", weights(one("F\\u001b[31m", "[1]", "[0,4]"), 4), "unknown dtype 'F\\x1b[31m'"},
      {"st-lfs-pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n",
       "a Git LFS pointer, not the weights"},
      {"st-html", "\n<!DOCTYPE HTML><html></html>", "an HTML page, not weights"},
      {"st-is-zip", std::string("PK\x03\x04\x00\x00\x08\x08", 8) + std::string(40, 'x'),
       "a PyTorch zip; run `realfake convert`"},
      {"st-gguf", std::string("GGUF\x03\0\0\0", 8) + std::string(40, '\0'),
       "GGUF is not supported"},
  };
  const TempDir folder;
  for (const BadFile& bad : cases) {
    const auto path = folder / "bad.safetensors";
    write_file_atomic(path, bad.content);
    const std::string message = message_of([&] { SafetensorsFile{path}; });
    EXPECT_EQ(message.find(path.string() + ": "), 0u) << bad.name << ": " << message;
    EXPECT_NE(message.find(bad.core), std::string::npos) << bad.name << ": " << message;
  }
}

TEST(Safetensors, ReadsTheValidTwins) {
  struct Good {
    const char* name;
    std::string content;
    size_t tensors;
  };
  const Good cases[] = {
      {"no tensors", weights("{}", 0), 0},
      {"space at the end", weights("{}      ", 0), 0},
      {"metadata alone", weights("{\"__metadata__\":{\"format\":\"pt\",\"x\":\"\"}}", 0), 0},
      {"rank 0", weights(one("F32", "[]", "[0,4]"), 4), 1},
      {"rank 8", weights(one("F32", "[1,1,1,1,1,1,1,1]", "[0,4]"), 4), 1},
      {"dimension 0", weights(one("F32", "[0,3]", "[0,0]"), 0), 1},
      {"empty tensor between others",
       weights("{" + tensor("a", "U8", "[4]", "[0,4]") + "," + tensor("z", "U8", "[0]", "[4,4]") +
                   "," + tensor("b", "U8", "[2]", "[4,6]") + "}",
               6),
       3},
      {"data in another order than names",
       weights(
           "{" + tensor("a", "U8", "[4]", "[2,6]") + "," + tensor("b", "U8", "[2]", "[0,2]") + "}",
           6),
       2},
      {"name of 4096 bytes",
       weights("{" + tensor(std::string(4096, 'n'), "U8", "[1]", "[0,1]") + "}", 1), 1},
      {"F4 in whole bytes", weights(one("F4", "[4]", "[0,2]"), 2), 1},
      {"escaped name", weights("{" + tensor("\\u00e9\\\"", "U8", "[1]", "[0,1]") + "}", 1), 1},
  };
  const TempDir folder;
  for (const Good& good : cases) {
    write_file_atomic(folder / "good.safetensors", good.content);
    EXPECT_EQ(message_of([&] {
                const SafetensorsFile file(folder / "good.safetensors");
                EXPECT_EQ(file.names().size(), good.tensors) << good.name;
              }),
              "(no error)")
        << good.name;
  }
}

// A zip's magic is also the length of a 67 MB header: only what follows tells them apart.
TEST(Safetensors, AHeaderLengthThatSpellsAZipIsStillAHeader) {
  const TempDir folder;
  std::string header = "{}";
  header.resize(0x04034b50, ' ');
  std::ofstream(folder / "a.safetensors", std::ios::binary) << weights(header, 0);
  EXPECT_EQ(SafetensorsFile(folder / "a.safetensors").names().size(), 0u);
}

TEST(Safetensors, ManyNamesLoadFast) {
  const TempDir folder;
  std::string header = "{";
  for (int i = 0; i < 300'000; ++i)
    header += (i ? "," : "") + tensor("t" + std::to_string(i), "U8", "[0]", "[0,0]");
  write_file_atomic(folder / "a.safetensors", weights(header + "}", 0));
  EXPECT_EQ(SafetensorsFile(folder / "a.safetensors").names().size(), 300'000u);
}

TEST(Safetensors, AFileThatShrinksIsAnIoError) {
  const TempDir folder;
  const auto path = folder / "a.safetensors";
  write_file_atomic(path, weights(one("F32", "[4]", "[0,16]"), 16));
  const SafetensorsFile file(path);
  ASSERT_EQ(::truncate(path.c_str(), 70), 0);
  try {
    file.read_f32("a");
    FAIL();
  } catch (const IoError& error) {
    EXPECT_NE(std::string(error.what()).find("file changed while being read"), std::string::npos);
  }
}

TEST(Safetensors, WritesWhatItReads) {
  const TempDir folder;
  const auto path = folder / "a.safetensors";
  const std::vector<float> values{1, -2.5f, 0.1f, 65504, 1e-7f, -0.0f};
  const std::vector<int64_t> ids{1, -2, 1ll << 40};
  const double wide[] = {0.5, 1e-300};
  const uint8_t flags[] = {0, 1, 255};
  SafetensorsWriter writer;
  writer.add_f32("z", {2, 3}, values.data());
  writer.add_f16("h", {6}, values.data());
  writer.add_bf16("b", {3, 2}, values.data());
  writer.add_i64("ids", {3}, ids.data());
  writer.add("d", WeightType::f64, {2}, wide);
  writer.add_view("u", WeightType::u8, {3}, flags);
  writer.add_f32("scalar \"\xc3\xa9", {}, values.data());
  writer.add_f32("none", {0, 7}, values.data());
  writer.set_metadata("note", "a\nb");
  writer.write(path);

  const SafetensorsFile file(path);
  EXPECT_EQ(file.names().size(), 8u);
  EXPECT_EQ(file.metadata(),
            (std::map<std::string, std::string>{{"format", "pt"}, {"note", "a\nb"}}));
  EXPECT_EQ(file.read_f32("z"), values);
  EXPECT_EQ(file.read_i64("ids"), ids);
  EXPECT_EQ(file.read_i64("u"), (std::vector<int64_t>{0, 1, 255}));
  EXPECT_EQ(file.read_f32("d"), (std::vector<float>{0.5f, 0.0f}));
  EXPECT_EQ(file.read_f32("h"),
            (std::vector<float>{1, -2.5f, 0.0999755859375f, 65504, 1.1920929e-7f, -0.0f}));
  EXPECT_EQ(file.read_f32("b")[3], 65536);
  EXPECT_EQ(file.read_f32("scalar \"\xc3\xa9"), std::vector<float>{1});
  EXPECT_EQ(file.info("none").shape, (std::vector<int64_t>{0, 7}));
  EXPECT_TRUE(file.read_f32("none").empty());
  EXPECT_EQ(file.info("ids").begin % 8, 0u);
  // The widest dtype comes first, names in order within one dtype.
  EXPECT_LT(file.info("ids").begin, file.info("d").begin);
  EXPECT_LT(file.info("d").begin, file.info("z").begin);
  EXPECT_LT(file.info("scalar \"\xc3\xa9").begin, file.info("z").begin);
  EXPECT_LT(file.info("b").begin, file.info("h").begin);
}

TEST(Safetensors, WriterRefusesWhatItCouldNotReadBack) {
  const float x = 1;
  SafetensorsWriter writer;
  writer.add_f32("a", {1}, &x);
  EXPECT_THROW(writer.add_f32("a", {1}, &x), ContractError);
  EXPECT_THROW(writer.add_f32("__metadata__", {1}, &x), ContractError);
  EXPECT_THROW(writer.add_f32("\xff", {1}, &x), ContractError);
  EXPECT_THROW(writer.add_f32("r", {1, 1, 1, 1, 1, 1, 1, 1, 1}, &x), ContractError);
  EXPECT_THROW(writer.add_f32("n", {-1}, &x), ContractError);
}

TEST(Safetensors, DtypesAndNumbersThatCannotBeUsed) {
  const TempDir folder;
  const auto path = folder / "a.safetensors";
  std::vector<float> values(100, 1.0f);
  for (int i : {17, 30, 99})
    values[static_cast<size_t>(i)] = std::numeric_limits<float>::quiet_NaN();
  const int64_t id = 3;
  SafetensorsWriter writer;
  writer.add_f32("a", {100}, values.data());
  values[5] = -std::numeric_limits<float>::infinity();
  writer.add_f32("both", {100}, values.data());
  writer.add_i64("i", {1}, &id);
  writer.add("f8", WeightType::f8_e4m3, {1}, &id);
  writer.add("u64", WeightType::u64, {1}, "\xff\xff\xff\xff\xff\xff\xff\xff");
  writer.write(path);
  SafetensorsFile file(path);
  const auto contains = [](const std::string& text, const std::string& core) {
    EXPECT_NE(text.find(core), std::string::npos) << text;
  };
  contains(message_of([&] { file.read_f32("a"); }), "tensor 'a': 3 NaN, first at index 17");
  contains(message_of([&] { file.read_f32("both"); }),
           "tensor 'both': 3 NaN and 1 infinite, first at index 5");
  contains(message_of([&] { file.read_f32("i"); }),
           "tensor 'i': dtype I64 where a float is needed");
  contains(message_of([&] { file.read_f32("f8"); }), "dtype F8_E4M3 where a float is needed");
  contains(message_of([&] { file.read_i64("a"); }), "dtype F32 where an integer is needed");
  contains(message_of([&] { file.read_i64("u64"); }),
           "found 18446744073709551615, expected at most 2^63-1");
  contains(message_of([&] { file.read_f32("none"); }), "missing 'none'");
  file.allow_nonfinite(true);
  EXPECT_TRUE(std::isnan(file.read_f32("a")[17]));
}

// Shards
// ----------------------------------------------------------------------------------------------

struct Model {
  TempDir folder;
  std::filesystem::path index = folder / "m" / "model.safetensors.index.json";
  Model() {
    std::filesystem::create_directory(folder / "m");
    const float x[] = {1, 2, 3, 4};
    for (const char* name : {"a", "b"}) {
      SafetensorsWriter writer;
      writer.add_f32(name, {2, 2}, x);
      writer.write(folder / "m" / (std::string("x-") + name));
    }
    std::filesystem::copy(folder / "m" / "x-a", folder / "outside");
  }
  void write_index(const std::string& map) {
    write_file_atomic(index, "{\"metadata\":{},\"weight_map\":" + map + "}");
  }
  std::string opened() {
    return message_of([&] { WeightFiles{folder / "m"}; });
  }
};

TEST(WeightFiles, ReadsShardsAndSingleFilesAndFolders) {
  Model model;
  model.write_index(R"({"a": "x-a", "b": "x-b"})");
  WeightFiles sharded(model.folder / "m");
  EXPECT_EQ(sharded.names(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(sharded.read_f32("b", {2, 2})[3], 4);
  EXPECT_EQ(sharded.unread(), std::vector<std::string>{"a"});
  WeightFiles single(model.folder / "m" / "x-a");
  EXPECT_EQ(single.names(), std::vector<std::string>{"a"});
  std::filesystem::rename(model.folder / "m" / "x-a", model.folder / "m" / "model.safetensors");
  EXPECT_EQ(WeightFiles(model.folder / "m").names(), std::vector<std::string>{"a"});
}

TEST(WeightFiles, RefusesShardsOutsideTheFolderAndMissingOnes) {
  Model model;
  std::filesystem::create_symlink(model.folder / "outside", model.folder / "m" / "link");
  std::filesystem::create_symlink("x-a", model.folder / "m" / "good-link");
  const std::pair<std::string, std::string> cases[] = {
      {R"({"a": "../outside"})", "shard path leaves the model folder"},
      {R"({"a": "sub/../../outside"})", "shard path leaves the model folder"},
      {"{\"a\": \"" + (model.folder / "m" / "x-a").string() + "\"}",
       "shard path leaves the model folder"},
      {R"({"a": "link"})", "shard path leaves the model folder"},
      {R"({"a": "x-a\u0000"})", "shard path leaves the model folder"},
      {R"({"a": ""})", "shard path leaves the model folder"},
      {R"({"a": "x-00002"})", "shard 'x-00002' not found"},
      {R"({"a": "x-b"})", "'a' listed in x-b, not there"},
      {R"({"a": 1})", "file of 'a' is not a string"},
      {R"({"a": "x-a", "a": "x-b"})", "key 'a' appears twice"},
      {R"([])", "'weight_map' is not an object"},
      {R"({"a": "good-link"})", "(no error)"},
  };
  for (const auto& [map, core] : cases) {
    model.write_index(map);
    const std::string message = model.opened();
    EXPECT_NE(message.find(core), std::string::npos) << map << ": " << message;
  }
}

TEST(WeightFiles, FollowsTheLinksOfTheDownloadCache) {
  Model model;
  const auto root = model.folder / "hub";
  std::filesystem::create_directories(root / "blobs");
  std::filesystem::create_directories(root / "snapshots/1/unet");
  std::filesystem::copy(model.folder / "outside", root / "blobs/0a");
  std::filesystem::create_symlink("../../../blobs/0a", root / "snapshots/1/unet/x-a");
  const auto index = root / "snapshots/1/unet/model.safetensors.index.json";
  write_file_atomic(index, R"({"weight_map": {"a": "x-a"}})");
  EXPECT_EQ(WeightFiles(index).names(), std::vector<std::string>{"a"});
}

TEST(WeightFiles, NamesWhatDoesNotFitTheModel) {
  const TempDir folder;
  const std::vector<float> x(4 * 9 * 9, 0.5f);
  SafetensorsWriter writer;
  writer.add_f32("conv_in.weight", {4, 9, 3, 3}, x.data());
  writer.add_f32("b", {3}, x.data());
  writer.write(folder / "weights.safetensors");
  WeightFiles files(folder.path());
  EXPECT_NE(message_of([&] {
              files.read_f32("conv_in.weight", {4, 4, 3, 3});
            }).find("'conv_in.weight' is [4,9,3,3], model expects [4,4,3,3] (inpainting model?)"),
            std::string::npos);
  EXPECT_NE(message_of([&] { files.read_f32("b", {4}); }).find("'b' is [3], model expects [4]"),
            std::string::npos);
  EXPECT_NE(message_of([&] {
              files.require_all({"b", "c", "d", "e"});
            }).find(": missing 'c' and 2 more"),
            std::string::npos);
  EXPECT_NE(message_of([&] { files.require_all({"c"}); }).find(": missing 'c'"), std::string::npos);
  EXPECT_NO_THROW(files.require_all({"b"}));
  std::filesystem::rename(folder / "weights.safetensors", folder / "weights.bin");
  EXPECT_NE(message_of([&] { WeightFiles{folder.path()}; }).find("run `realfake convert`"),
            std::string::npos);
}

}  // namespace
}  // namespace realfake
