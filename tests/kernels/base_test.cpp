// Files that are whole or absent, locks, hashes, guarded JSON, and the 16-bit conversions.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <limits>

#include "kernels/base/error.h"
#include "kernels/base/file.h"
#include "kernels/base/json.h"
#include "kernels/base/sha256.h"
#include "kernels/base/text.h"
#include "kernels/dtype.h"
#include "tests/testing/temp_dir.h"

namespace realfake {
namespace {

using testing::TempDir;
namespace fs = std::filesystem;

size_t entries_of(const fs::path& folder) {
  return static_cast<size_t>(
      std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

template <class Kind>
std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Kind& error) {
    return error.what();
  } catch (const std::exception& error) {
    return std::string("(another error) ") + error.what();
  }
  return "(no error)";
}

void expect_in(const std::string& text, const std::string& core) {
  EXPECT_NE(text.find(core), std::string::npos) << text << "\nlacks " << core;
}

// Files
// -----------------------------------------------------------------------------------------------

TEST(InputFile, RefusesWhatIsNotARegularFile) {
  const TempDir folder;
  ASSERT_EQ(::mkfifo((folder / "fifo").c_str(), 0600), 0);
  fs::create_symlink("loop", folder / "loop");
  const auto open = [](const fs::path& path) { return [path] { InputFile{path}; }; };
  for (const auto& path : {folder / "fifo", folder / "loop", folder.path(), fs::path("/dev/null")})
    EXPECT_EQ(message_of<InputError>(open(path)), path.string() + ": not a regular file");
  expect_in(message_of<InputError>(open(folder / "none")), "none: no such file");
  expect_in(message_of<InputError>(open(folder / "\x1b[31mnone")), "\\x1b[31mnone: no such file");
}

TEST(InputFile, ReadsWhereAskedAndNoticesAShrunkFile) {
  const TempDir folder;
  write_file_atomic(folder / "a", "0123456789");
  InputFile file(folder / "a");
  char text[4] = {};
  file.read(text, 3, 5);
  EXPECT_STREQ(text, "567");
  EXPECT_THROW(file.read(text, 3, 8), ContractError);
  const InputFile moved(std::move(file));
  ASSERT_EQ(::truncate((folder / "a").c_str(), 6), 0);
  expect_in(message_of<IoError>([&] { moved.read(text, 3, 5); }), "file changed while being read");
  expect_in(message_of<InputError>([&] { read_file(folder / "a", 5); }),
            "found 6 bytes, expected at most 5");
  EXPECT_EQ(read_file(folder / "a", 6), "012345");
}

TEST(AtomicFile, AppearsOnlyWhenCommitted) {
  const TempDir folder;
  const auto path = folder / "a";
  write_file_atomic(path, "old");
  {
    AtomicFile file(path);
    file.write("new, not finished");
    EXPECT_EQ(entries_of(folder.path()), 2u);
    EXPECT_EQ(read_file(path, 100), "old");
  }
  EXPECT_EQ(read_file(path, 100), "old");
  EXPECT_EQ(entries_of(folder.path()), 1u);  // no temporary file is left
  {
    AtomicFile file(path);
    file.write("ne");
    file.write("w");
    file.commit();
    EXPECT_THROW(file.write("more"), ContractError);
    EXPECT_THROW(file.commit(), ContractError);
  }
  EXPECT_EQ(read_file(path, 100), "new");
  EXPECT_EQ(entries_of(folder.path()), 1u);
  struct stat info;
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0133, 0u);  // at most 0644
}

TEST(AtomicFile, NeverFollowsAPlantedLink) {
  const TempDir folder;
  write_file_atomic(folder / "victim", "safe");
  fs::create_symlink("victim", folder / "link");
  expect_in(message_of<IoError>([&] { AtomicFile{folder / "link"}; }),
            "exists and is not a regular file");
  expect_in(message_of<IoError>([&] { LineAppender{folder / "link"}; }),
            "exists and is not a regular file");
  expect_in(message_of<IoError>([&] { AtomicFile{folder.path()}; }),
            "exists and is not a regular file");
  expect_in(message_of<IoError>([&] { AtomicFile{folder / "no/a"}; }),
            "cannot create: No such file");
  EXPECT_EQ(read_file(folder / "victim", 10), "safe");
}

TEST(AtomicFile, AFullDiskLeavesTheOldFile) {
  const TempDir folder;
  write_file_atomic(folder / "a", "old");
  const pid_t child = ::fork();
  if (child == 0) {  // a file size limit stands in for a full disk
    const struct rlimit limit { 1000, 1000 };
    ::setrlimit(RLIMIT_FSIZE, &limit);
    ::signal(SIGXFSZ, SIG_IGN);
    int result = 1;
    try {
      AtomicFile file(folder / "a");
      file.write(std::string(5000, 'x'));
      file.commit();
    } catch (const IoError&) {
      result = 0;
    } catch (...) {
    }
    ::_exit(result);
  }
  int status = 1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(read_file(folder / "a", 100), "old");
  EXPECT_EQ(entries_of(folder.path()), 1u);
}

TEST(LineAppender, CutsATornLastLineAndGoesOn) {
  const TempDir folder;
  const auto path = folder / "log";
  {
    LineAppender lines(path);
    lines.append("one");
    lines.append("two");
    EXPECT_THROW(lines.append("a\nb"), ContractError);
    lines.sync();
  }
  std::ofstream(path, std::ios::app) << std::string(10000, 'x');  // a kill in the middle of a line
  EXPECT_EQ(read_whole_lines(path, 1 << 20), (std::vector<std::string>{"one", "two"}));
  LineAppender(path).append("three");
  EXPECT_EQ(read_whole_lines(path, 1 << 20), (std::vector<std::string>{"one", "two", "three"}));
  EXPECT_EQ(read_file(path, 100), "one\ntwo\nthree\n");
  std::ofstream(folder / "torn") << "only";
  LineAppender(folder / "torn").append("first");
  EXPECT_EQ(read_file(folder / "torn", 100), "first\n");
}

TEST(FolderLock, ASecondProcessIsToldWhoHoldsIt) {
  const TempDir folder;
  const auto try_in_child = [&](const std::string& expected) {
    const pid_t child = ::fork();
    if (child == 0) {
      int result = 2;
      try {
        const FolderLock second(folder.path());
        result = 1;
      } catch (const LockedError& error) {
        result = std::string(error.what()).find(expected) == std::string::npos ? 3 : 0;
      } catch (...) {
      }
      ::_exit(result);
    }
    int status = -1;
    ::waitpid(child, &status, 0);
    return WEXITSTATUS(status);
  };
  {
    const FolderLock first(folder.path());
    EXPECT_EQ(try_in_child(concat("in use by process ", ::getpid(), " on ")), 0);
  }
  EXPECT_EQ(try_in_child(""), 1);  // free again
  // A holder that is killed leaves no stale lock.
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t holder = ::fork();
  if (holder == 0) {
    const FolderLock held(folder.path());
    if (::write(ready[1], "x", 1) != 1) ::_exit(1);
    for (;;) ::pause();
  }
  char byte;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  EXPECT_EQ(try_in_child(concat("in use by process ", holder)), 0);
  ::kill(holder, SIGKILL);
  ::waitpid(holder, nullptr, 0);
  EXPECT_EQ(try_in_child(""), 1);
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST(Printable, HidesWhatATerminalWouldObey) {
  EXPECT_EQ(printable("a\x1b[2J\n\t\x7f"), "a\\x1b[2J\\x0a\\x09\\x7f");
  EXPECT_EQ(printable("caf\xc3\xa9 \xf0\x9f\x98\x80"), "caf\xc3\xa9 \xf0\x9f\x98\x80");
  EXPECT_EQ(printable("\xff\xc3"), "\\xff\\xc3");
  EXPECT_EQ(printable("a\u202eb\u0085"), "a\\u202eb\\u0085");
}

TEST(Utf8, AcceptsOnlyTheShortestForms) {
  for (const char* good : {"", "a", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf",
                           "\xee\x80\x80", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"}) {
    EXPECT_EQ(valid_utf8_prefix(good), std::strlen(good)) << printable(good);
    if (!*good) continue;
    uint32_t character = 0;
    EXPECT_EQ(decode_utf8(good, 0, character), std::strlen(good));
    std::string again;
    append_utf8(again, character);
    EXPECT_EQ(again, good);
  }
  for (const char* bad : {"\x80", "\xc0\x80", "\xc1\xbf", "\xc2", "\xe0\x9f\xbf", "\xed\xa0\x80",
                          "\xed\xbf\xbf", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80",
                          "\xf5\x80\x80\x80", "\xfe", "\xe2\x82", "\xe2(\xa1"})
    EXPECT_EQ(valid_utf8_prefix(std::string("ok") + bad), 2u) << printable(bad);
}

// SHA-256
// ---------------------------------------------------------------------------------------------

TEST(Sha256, GivesTheStandardsValues) {
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  const std::string million(1'000'000, 'a');
  const std::string expected = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
  EXPECT_EQ(sha256_hex(million), expected);
  Sha256 pieces;
  for (size_t at = 0, step = 1; at < million.size(); at += step, step = step % 131 + 1)
    pieces.update(million.data() + at, std::min(step, million.size() - at));
  EXPECT_EQ(pieces.hex(), expected);
  const TempDir folder;
  write_file_atomic(folder / "a", million + million);
  EXPECT_EQ(sha256_of_file(folder / "a"), sha256_hex(million + million));
}

// JSON
// ------------------------------------------------------------------------------------------------

std::string refused(const std::string& text, const std::string& where = "f.json") {
  return message_of<InputError>([&] { parse_json(text, where); });
}

TEST(GuardedJson, RefusesByPlace) {
  EXPECT_EQ(refused(R"({"a": 1, "b": {"x": 1, "y": 2, "x": 3}})"), "f.json: key 'x' appears twice");
  EXPECT_EQ(refused(R"({"a": 1, "\u0061": 2})"), "f.json: key 'a' appears twice");
  EXPECT_EQ(refused(std::string(100000, '[')), "f.json: JSON nested deeper than 64 at byte 64");
  EXPECT_EQ(refused(std::string(65, '[') + std::string(65, ']')),
            "f.json: JSON nested deeper than 64 at byte 64");
  EXPECT_EQ(refused("{\"a\": \"\xff\"}"), "f.json: invalid UTF-8 at byte 7");
  EXPECT_EQ(refused("{\"a\": \"\xed\xa0\x80\"}"), "f.json: invalid UTF-8 at byte 7");
  expect_in(refused(R"({"file_name": "x" "t": 1})", "captions.jsonl:3"),
            "captions.jsonl:3: found string literal, expected ',' at column 19");
  expect_in(refused("{\n \"a\": 1\n \"b\": 2}"), "expected ',' at line 3 column 2");
  expect_in(refused("[1 2]"), "expected ',' at column 4");
  expect_in(refused("{\"a\": [1, 2"), "found end of input");
  expect_in(refused(""), "found end of input");
  expect_in(refused("{} 1"), "found number literal, expected end of input at column 4");
  expect_in(refused("{}{}"), "found '{', expected end of input at column 3");
  expect_in(refused("{} x"), "expected end of input at column 4");
  expect_in(refused("[1, true false]"), "found false literal, expected ',' at column 10");
  EXPECT_LT(refused("[" + std::string(100000, '1') + "x").size(), 400u);
  expect_in(refused("[1e400]"), "number overflow");
  expect_in(refused("[nan]"), "found invalid literal");
  EXPECT_NE(refused("{'a': 1}"), "(no error)");
  EXPECT_NE(refused(std::string("{}\0", 3)), "(no error)");
}

TEST(GuardedJson, ReadsTheValidTwins) {
  EXPECT_EQ(parse_json(std::string(64, '[') + std::string(64, ']'), "f").size(), 1u);
  EXPECT_EQ(parse_json("[\"" + std::string(1000, '[') + "\\\"{\"]", "f").size(), 1u);
  const Json value =
      parse_json(R"( {"b": [1, -2, 2.5, true, null, "é\n"], "a": {"x": {}, "y": []}} )", "f");
  EXPECT_EQ(value.dump(),
            R"({"b":[1,-2,2.5,true,null,"é\n"],"a":{"x":{},"y":[]}})");  // order is kept
  EXPECT_EQ(value["a"]["y"], Json::array());
  std::string many = "{";
  for (int i = 0; i < 100'000; ++i)
    many += (i ? ",\"" : "\"") + std::to_string(i) + "\":" + std::to_string(i);
  EXPECT_EQ(parse_json(many + "}", "f").size(), 100'000u);
  const TempDir folder;
  write_json_atomic(folder / "a.json", value);
  EXPECT_EQ(read_json(folder / "a.json"), value);
  expect_in(message_of<InputError>([&] { read_json(folder / "a.json", 10); }),
            "expected at most 10");
}

TEST(JsonReader, NamesFileKeyFoundAndExpected) {
  const Json config = parse_json(
      R"({"n": 4, "big": 1000000000000000000, "huge": 18446744073709551615, "f": 2.5, "s": "x", "none": null,
          "b": true, "list": [1, -1, 3], "mixed": ["a", 1]})",
      "c");
  const JsonReader reader(config, "unet/config.json");
  EXPECT_EQ(reader.integer("n", 1, 4), 4);
  EXPECT_EQ(reader.integer_or("none", 7, 1, 9), 7);
  EXPECT_EQ(reader.integer_or("absent", 7, 1, 9), 7);
  EXPECT_EQ(reader.number("f"), 2.5);
  EXPECT_EQ(reader.number("n"), 4);
  EXPECT_TRUE(reader.boolean_or("b", false));
  EXPECT_EQ(reader.text("s"), "x");
  EXPECT_EQ(reader.text_or("none", "y"), "y");
  EXPECT_EQ(reader.integers("list", -1, 3), (std::vector<int64_t>{1, -1, 3}));
  EXPECT_TRUE(reader.has("n") && !reader.has("none") && !reader.has("absent"));
  const auto fails = [&](auto action, const std::string& core) {
    EXPECT_EQ(message_of<InputError>([&] { action(); }), "unet/config.json: " + core);
  };
  fails([&] { reader.integer("cross_attention_dim", 1, 9); }, "no key 'cross_attention_dim'");
  fails([&] { reader.integer("s", 1, 9); }, "'s' is a string, expected an integer");
  fails([&] { reader.integer("f", 1, 9); }, "'f' is 2.5, expected an integer");
  fails([&] { reader.integer("big", 1, 65536); },
        "'big' is 1000000000000000000, expected 1..65536");
  fails([&] { reader.integer("huge", 1, 65536); },
        "'huge' is 18446744073709551615, expected 1..65536");
  fails([&] { reader.integers("list", 1, 65536); }, "'list[1]' is -1, expected 1..65536");
  fails([&] { reader.integers("n", 1, 9); }, "'n' is 4, expected an array");
  fails([&] { reader.texts("mixed"); }, "'mixed[1]' is 1, expected a string");
  fails([&] { reader.boolean_or("n", false); }, "'n' is 4, expected true or false");
  fails([&] { reader.number("none"); }, "'none' is null, expected a number");
  const Json array = Json::array();
  expect_in(message_of<InputError>([&] { JsonReader(array, "c.json"); }),
            "c.json: found an array, expected a JSON object");
}

// 16-bit types
// ----------------------------------------------------------------------------------------

TEST(HalfTypes, EveryValueSurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float as_f16 = f16_to_f32(half), as_bf16 = bf16_to_f32(half);
    if (std::isnan(as_f16))
      EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(as_f16))));
    else
      EXPECT_EQ(f32_to_f16(as_f16), half);
    if (std::isnan(as_bf16))
      EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(as_bf16))));
    else
      EXPECT_EQ(f32_to_bf16(as_bf16), half);
  }
}

TEST(HalfTypes, RoundToNearestEven) {
  // Between two neighbours the midpoint goes to the even one, a hair to either side to the nearer
  // one.
  for (uint16_t half = 0; half < 0x7bff; ++half) {
    const float low = f16_to_f32(half), high = f16_to_f32(static_cast<uint16_t>(half + 1));
    const float middle = low + (high - low) / 2;  // exact
    const uint16_t even = half % 2 ? static_cast<uint16_t>(half + 1) : half;
    ASSERT_EQ(f32_to_f16(middle), even);
    ASSERT_EQ(f32_to_f16(std::nextafter(middle, 0.0f)), half);
    ASSERT_EQ(f32_to_f16(std::nextafter(middle, 1e9f)), half + 1);
    ASSERT_EQ(f32_to_f16(-middle), even | 0x8000);
  }
  EXPECT_EQ(f32_to_f16(65519.996f), 0x7bff);
  EXPECT_EQ(f32_to_f16(65520.0f), 0x7c00);
  EXPECT_EQ(f32_to_f16(1e30f), 0x7c00);
  EXPECT_EQ(f32_to_bf16(1.00390625f), 0x3f80);  // a midpoint, to even
  EXPECT_EQ(f32_to_bf16(1.01171875f), 0x3f82);
  EXPECT_EQ(f32_to_bf16(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_EQ(f32_to_bf16(-0.0f), 0x8000);
}

}  // namespace
}  // namespace realfake
