#include "train/embed.h"

#include <algorithm>
#include <map>

#include "data/captions.h"
#include "kernels/base/sha256.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/image.h"
#include "kernels/reduce.h"
#include "train/seal.h"

namespace realfake {
namespace {

namespace fs = std::filesystem;

void require_finite(Exec& exec, const Tensor& t, const char* what) {
  const Tensor found = exec.empty({2}, DType::i64);
  count_nonfinite(exec, found, t.flat());
  const std::vector<int64_t> v = exec.to_vector<int64_t>(found);
  if (v[0] > 0)
    throw NumericError(concat(what, ": ", v[0], " values not finite, first at index ", v[1]));
}

// [first,last) of the set as (N,H,W,3) floats, normalised; grey is repeated.
Tensor pixels_as(Exec& exec, const ImageSet& set, int64_t first, int64_t last, int64_t side,
                 const std::vector<float>& mean, const std::vector<float>& std) {
  const int64_t n = last - first;
  const int64_t h = side ? side : set.height, w = side ? side : set.width;
  std::vector<uint8_t> rgb;
  rgb.reserve(static_cast<size_t>(n * h * w * 3));
  for (int64_t i = first; i < last; ++i) {
    Image image{set.height, set.width, set.channels, {}};
    const auto begin = set.pixels.begin() + i * set.pixels_per_image();
    image.pixels.assign(begin, begin + set.pixels_per_image());
    image = with_channels(image, 3);
    if (side && (side != set.height || side != set.width)) image = resize_and_crop(image, side);
    rgb.insert(rgb.end(), image.pixels.begin(), image.pixels.end());
  }
  const Tensor u8 = exec.from_vector(rgb, {n, h, w, 3});
  const Tensor out = exec.empty({n, h, w, 3});
  normalize_u8(exec, out, u8, exec.from_vector(mean, {3}), exec.from_vector(std, {3}));
  return out;
}

Tensor stack(Exec& exec, const std::vector<Tensor>& parts, int64_t n) {
  std::vector<int64_t> dims = parts.front().shape().vec();
  dims[0] = n;
  const Tensor all = exec.empty(Shape(dims));
  int64_t at = 0;
  for (const Tensor& p : parts) {
    copy(exec, all.slice(at, at + p.dim(0)), p);
    at += p.dim(0);
  }
  return all;
}

Tensor encode_prompts(Exec& exec, const Tokenizer& tokenizer, const ClipText& text,
                      const std::vector<std::string>& prompts, int64_t batch, Reporter& reporter) {
  Tape tape(exec, false);
  std::vector<Tensor> parts;
  const int64_t length = tokenizer.max_length(), total = static_cast<int64_t>(prompts.size());
  for (int64_t first = 0; first < total; first += batch) {
    const int64_t last = std::min(total, first + batch);
    std::vector<int64_t> ids;
    for (int64_t i = first; i < last; ++i) {
      const Tokenizer::Encoding e = tokenizer.encode_full(prompts[static_cast<size_t>(i)]);
      if (!e.cut.empty())
        reporter.say("prompt longer than " + std::to_string(length) +
                     " tokens; cut: " + printable(e.cut));
      ids.insert(ids.end(), e.ids.begin(), e.ids.end());
    }
    parts.push_back(text(tape, exec.from_vector(ids, {last - first, length})).value());
  }
  return stack(exec, parts, total);
}

}  // namespace

Tensor take_rows(Exec& exec, const Tensor& table, const std::vector<int64_t>& index) {
  std::vector<int64_t> dims = table.shape().vec();
  const int64_t rows = dims[0], width = table.numel() / std::max<int64_t>(rows, 1);
  dims[0] = static_cast<int64_t>(index.size());
  const Tensor y = exec.empty(Shape(dims), table.dtype());
  embedding_forward(exec, y.reshape({dims[0], width}), table.reshape({rows, width}),
                    exec.from_vector(index, {dims[0]}));
  return y;
}

void replace_last_token(Exec& exec, const Tensor& context, const Tensor& image_embeds) {
  const int64_t n = context.dim(0), t = context.dim(1), d = context.dim(2);
  require(image_embeds.shape() == Shape({n, d}), "[guidance] image embeddings ",
          image_embeds.shape(), " do not fit a context of width ", d);
  copy(exec, context.reshape({n, t * d}).columns((t - 1) * d, t * d), image_embeds);
}

GuidanceToken parse_guidance_token(const std::string& text) {
  if (text == "off") return GuidanceToken::off;
  if (text == "image") return GuidanceToken::image;
  if (text == "class-mean") return GuidanceToken::class_mean;
  throw UsageError("--guidance_token is '" + text + "', expected off, image or class-mean");
}

Tensor class_mean_embeds(Exec& exec, const Embedded& e) {
  require(e.image_embeds.defined(), "[guidance] no image embeddings");
  const int64_t k = static_cast<int64_t>(e.classes.size()), p = e.image_embeds.dim(1);
  const std::vector<float> rows = exec.to_vector<float>(e.image_embeds);
  std::vector<double> sum(static_cast<size_t>(k * p), 0);
  std::vector<int64_t> count(static_cast<size_t>(k), 0);
  for (int64_t i = 0; i < e.size(); ++i) {
    const int64_t label = e.labels[static_cast<size_t>(i)];
    ++count[static_cast<size_t>(label)];
    for (int64_t j = 0; j < p; ++j)
      sum[static_cast<size_t>(label * p + j)] += rows[static_cast<size_t>(i * p + j)];
  }
  std::vector<float> mean(sum.size());
  for (size_t i = 0; i < sum.size(); ++i)
    mean[i] = static_cast<float>(
        sum[i] / static_cast<double>(std::max<int64_t>(1, count[i / static_cast<size_t>(p)])));
  return exec.from_vector(mean, {k, p});
}

Tensor guidance_rows(Exec& exec, const Embedded& e, GuidanceToken token, const Tensor& class_means,
                     const std::vector<int64_t>& samples) {
  if (token == GuidanceToken::off) return Tensor();
  if (!e.image_embeds.defined())
    throw InputError(
        "--guidance_token needs an image encoder: the pipeline has no image_encoder/ folder");
  if (e.image_embeds.dim(1) != e.text_states.dim(2))
    throw InputError(
        concat("--guidance_token needs image embeddings as wide as text states: found ",
               e.image_embeds.dim(1), ", expected ", e.text_states.dim(2)));
  if (token == GuidanceToken::image) return take_rows(exec, e.image_embeds, samples);
  std::vector<int64_t> labels;
  for (const int64_t s : samples) labels.push_back(e.labels[static_cast<size_t>(s)]);
  return take_rows(exec, class_means, labels);
}

Embedded embed_dataset(Exec& exec, const fs::path& root, const ImageSet& set,
                       const EmbedOptions& options, Reporter& reporter) {
  Embedded e;
  e.labels = set.labels;
  e.classes = set.classes;
  const int64_t n = set.size();
  if (n == 0) throw InputError("the data set is empty");
  std::map<std::string, int64_t> known;
  for (int64_t i = 0; i < n; ++i) {
    const std::string& name =
        set.classes.at(static_cast<size_t>(set.labels[static_cast<size_t>(i)]));
    const std::string caption = set.captions.empty() ? "" : set.captions[static_cast<size_t>(i)];
    const std::string prompt = make_prompt(name, caption_of_prompt(caption, name));
    const auto [it, fresh] = known.emplace(prompt, static_cast<int64_t>(e.prompts.size()));
    if (fresh) e.prompts.push_back(prompt);
    e.prompt_of.push_back(it->second);
  }
  {
    const auto text = load_text(exec, root / "text_encoder");
    const Tokenizer tokenizer = Tokenizer::load(root / "tokenizer");
    e.text_states = encode_prompts(exec, tokenizer, *text->net, e.prompts, options.batch, reporter);
    e.empty_state =
        encode_prompts(exec, tokenizer, *text->net, {options.negative_prompt}, 1, reporter);
  }
  require_finite(exec, e.text_states, "text states");
  require_finite(exec, e.empty_state, "text state of the negative prompt");
  reporter.rewind("embed latents", 0);
  reporter.rewind("embed images", 0);
  e.weights = weights_digest(root);
  Tape tape(exec, false);
  {
    const auto vae = load_vae(exec, root / "vae");
    const std::vector<float> half(3, 0.5f);
    if (set.height % vae->net->config().factor() || set.width % vae->net->config().factor())
      throw InputError(concat("images are ", set.height, "x", set.width, ", expected multiples of ",
                              vae->net->config().factor()));
    std::vector<Tensor> parts;
    for (int64_t first = 0; first < n; first += options.batch) {
      const int64_t last = std::min(n, first + options.batch);
      parts.push_back(
          vae->net->encode(tape, Var(pixels_as(exec, set, first, last, 0, half, half))).value());
      reporter.step("embed latents", last, n, {});
      if (reporter.stop_requested())
        throw Error(ExitCode::interrupted, "interrupted while embedding");
    }
    e.moments = stack(exec, parts, n);
    require_finite(exec, e.moments, "latents");
  }
  if (fs::exists(root / "image_encoder")) {
    const auto vision = load_vision(exec, root / "image_encoder");
    const ImagePreprocessing p = ImagePreprocessing::read(root / "feature_extractor");
    std::vector<Tensor> parts;
    for (int64_t first = 0; first < n; first += options.batch) {
      const int64_t last = std::min(n, first + options.batch);
      const Tensor x =
          pixels_as(exec, set, first, last, vision->net->config().image_size, p.mean, p.std);
      parts.push_back((*vision->net)(tape, Var(x)).value());
      reporter.step("embed images", last, n, {});
      if (reporter.stop_requested())
        throw Error(ExitCode::interrupted, "interrupted while embedding");
    }
    e.image_embeds = stack(exec, parts, n);
    require_finite(exec, e.image_embeds, "image embeddings");
  }
  return e;
}

namespace {

void update(Sha256& hash, const std::string& s) {
  const uint64_t n = s.size();
  hash.update(&n, sizeof n);
  hash.update(s.data(), s.size());
}

}  // namespace

std::string weights_digest(const fs::path& root) {
  Sha256 hash;
  std::vector<fs::path> files;
  for (const char* part :
       {"text_encoder", "tokenizer", "vae", "image_encoder", "feature_extractor"})
    if (fs::exists(root / part))
      for (const auto& entry : fs::directory_iterator(root / part))
        if (entry.is_regular_file()) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  for (const fs::path& f : files) {
    update(hash, f.lexically_relative(root).string());
    update(hash, sha256_of_file(f));
  }
  return hash.hex();
}

std::string component_digest(const fs::path& folder) {
  std::vector<fs::path> files;  // a folder lists its files in no order of its own
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  Sha256 hash;
  for (const fs::path& f : files) update(hash, sha256_of_file(f));
  return hash.hex().substr(0, 16);
}

std::string data_digest(Exec& exec, const Embedded& e) {
  Sha256 hash;
  for (const Tensor& t : {e.moments, e.text_states, e.empty_state, e.image_embeds}) {
    if (!t.defined()) continue;
    const std::vector<float> v = exec.to_vector<float>(t);
    hash.update(v.data(), v.size() * sizeof(float));
  }
  for (const auto* v : {&e.labels, &e.prompt_of})
    hash.update(v->data(), v->size() * sizeof(int64_t));
  return hash.hex().substr(0, 16);
}

std::string embedding_key(const fs::path& root, const ImageSet& set, const EmbedOptions& options) {
  Sha256 hash;
  const auto text = [&](const std::string& s) { update(hash, s); };
  text(weights_digest(root));
  text(options.negative_prompt);
  text(concat(set.height, "x", set.width, "x", set.channels));
  hash.update(set.pixels.data(), set.pixels.size());
  hash.update(set.labels.data(), set.labels.size() * sizeof(int64_t));
  for (const std::string& s : set.classes) text(s);
  for (const std::string& s : set.captions) text(s);
  return hash.hex();
}

void save_embedded(const Embedded& e, Exec& exec, const fs::path& file, const std::string& key) {
  SafetensorsWriter w;
  const auto put = [&](const char* name, const Tensor& t, std::vector<int64_t> shape) {
    const std::vector<float> v = exec.to_vector<float>(t);
    w.add_f32(name, shape, v.data());
  };
  // Latents go out as PyTorch holds them, (N,2C,h,w).
  const int64_t n = e.moments.dim(0), h = e.moments.dim(1), wd = e.moments.dim(2),
                c = e.moments.dim(3);
  const std::vector<float> nhwc = exec.to_vector<float>(e.moments);
  std::vector<float> nchw(nhwc.size());
  for (int64_t i = 0; i < n; ++i)
    for (int64_t p = 0; p < h * wd; ++p)
      for (int64_t k = 0; k < c; ++k)
        nchw[static_cast<size_t>((i * c + k) * h * wd + p)] =
            nhwc[static_cast<size_t>((i * h * wd + p) * c + k)];
  w.add_f32("moments", {n, c, h, wd}, nchw.data());
  put("text_states", e.text_states, e.text_states.shape().vec());
  put("empty_state", e.empty_state, e.empty_state.shape().vec());
  if (e.image_embeds.defined()) put("image_embeds", e.image_embeds, e.image_embeds.shape().vec());
  w.add_i64("prompt_of", {n}, e.prompt_of.data());
  w.add_i64("labels", {n}, e.labels.data());
  w.set_metadata("key", key);
  w.set_metadata("classes", Json(e.classes).dump());
  w.set_metadata("prompts", Json(e.prompts).dump());
  w.set_metadata("weights", e.weights);
  seal(w);
  w.write(file);
}

Embedded load_embedded(Exec& exec, const fs::path& file, const std::string& key) {
  const SafetensorsFile f(file);
  check_seal(f);
  const auto meta = [&](const char* name) {
    const auto it = f.metadata().find(name);
    if (it == f.metadata().end())
      throw InputError(concat(file.string(), ": no metadata '", name, "' (not from `embed`?)"));
    return it->second;
  };
  if (!key.empty() && meta("key") != key)
    throw InputError(file.string() +
                     ": made from other weights, images or settings; run `realfake embed` again");
  Embedded e;
  const auto tensor = [&](const char* name) {
    return exec.from_vector(f.read_f32(name), Shape(f.info(name).shape));
  };
  const std::vector<int64_t> s = f.info("moments").shape;
  if (s.size() != 4)
    throw InputError(concat(file.string(), ": 'moments' is ", shape_text(s), ", expected rank 4"));
  const std::vector<float> nchw = f.read_f32("moments");
  std::vector<float> nhwc(nchw.size());
  const int64_t n = s[0], c = s[1], hw = s[2] * s[3];
  for (int64_t i = 0; i < n; ++i)
    for (int64_t p = 0; p < hw; ++p)
      for (int64_t k = 0; k < c; ++k)
        nhwc[static_cast<size_t>((i * hw + p) * c + k)] =
            nchw[static_cast<size_t>((i * c + k) * hw + p)];
  e.moments = exec.from_vector(nhwc, {n, s[2], s[3], c});
  e.text_states = tensor("text_states");
  e.empty_state = tensor("empty_state");
  if (f.has("image_embeds")) e.image_embeds = tensor("image_embeds");
  e.prompt_of = f.read_i64("prompt_of");
  e.labels = f.read_i64("labels");
  const auto strings = [&](const char* name) {
    const Json j = parse_json(meta(name), concat(file.string(), ": ", name));
    return JsonReader(Json{{"list", j}}, file.string()).texts("list");
  };
  e.classes = strings("classes");
  e.prompts = strings("prompts");
  const auto in_range = [&](const std::vector<int64_t>& v, int64_t limit, const char* name) {
    if (static_cast<int64_t>(v.size()) != n)
      throw InputError(
          concat(file.string(), ": '", name, "' has ", v.size(), " entries, expected ", n));
    for (const int64_t x : v)
      if (x < 0 || x >= limit)
        throw InputError(concat(file.string(), ": '", name, "': ", x, ", expected 0..", limit - 1));
  };
  e.weights = meta("weights");
  if (n == 0 || hw == 0 || c % 2)
    throw InputError(
        concat(file.string(), ": 'moments' is ", shape_text(s), ", expected [N,2C,h,w]"));
  in_range(e.labels, static_cast<int64_t>(e.classes.size()), "labels");
  in_range(e.prompt_of, static_cast<int64_t>(e.prompts.size()), "prompt_of");
  if (e.text_states.rank() != 3 || e.text_states.dim(0) != static_cast<int64_t>(e.prompts.size()))
    throw InputError(concat(file.string(), ": 'text_states' is ", e.text_states.shape().str(),
                            ", expected ", e.prompts.size(), " prompts"));
  if (e.empty_state.shape() != Shape({1, e.text_states.dim(1), e.text_states.dim(2)}))
    throw InputError(concat(file.string(), ": 'empty_state' is ", e.empty_state.shape().str()));
  if (e.image_embeds.defined() && (e.image_embeds.rank() != 2 || e.image_embeds.dim(0) != n))
    throw InputError(concat(file.string(), ": 'image_embeds' is ", e.image_embeds.shape().str(),
                            ", expected ", n, " rows"));
  return e;
}

void require_fits(const Embedded& e, const fs::path& pipeline, const std::string& name) {
  const auto config = [&](const char* part) { return read_json(pipeline / part / "config.json"); };
  const Json unet_json = config("unet"), vae_json = config("vae");
  const UNetConfig unet =
      UNetConfig::read(JsonReader(unet_json, (pipeline / "unet" / "config.json").string()));
  const VaeConfig vae =
      VaeConfig::read(JsonReader(vae_json, (pipeline / "vae" / "config.json").string()));
  const auto same = [&](int64_t found, int64_t expected, const char* what) {
    if (found != expected)
      throw InputError(concat(name, ": ", what, ": found ", found, ", expected ", expected, " (",
                              pipeline.string(), ")"));
  };
  same(e.moments.dim(3), 2 * vae.latent_channels, "channels of 'moments'");
  same(e.moments.dim(3), 2 * unet.in_channels, "channels of 'moments'");
  same(e.text_states.dim(2), unet.context_dim, "width of 'text_states'");
  if (!e.weights.empty() && e.weights != weights_digest(pipeline))
    throw InputError(concat(name, ": made with other networks than those of ", pipeline.string(),
                            "\nhint: run `realfake embed` again"));
}

}  // namespace realfake
