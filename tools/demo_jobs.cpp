#include "tools/demo_jobs.h"

#include <algorithm>
#include <cstdio>

#include "kernels/random.h"
#include "train/distances.h"
#include "train/embed.h"

namespace realfake {
namespace {

namespace fs = std::filesystem;

std::string percent(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f %%", v);
  return text;
}

class DemoJobs {
 public:
  DemoJobs(JobGraph& graph, const DemoSettings& s) : graph_(graph), s_(s) {}

  Demo add() {
    prepare();
    for (int64_t i = 0; i < s_.seeds; ++i) add_seed(s_.first_seed + i);
    if (!s_.rows.empty()) keep_rows();
    return demo_;
  }

 private:
  std::string path(const std::string& job) const { return graph_.folder(job).generic_string(); }
  // A command as a job's settings: the same wherever the run folder lies.
  std::string without_root(std::string command) const {
    const std::string root = graph_.folder("").generic_string();
    const std::string in_place = "RUN/";
    for (size_t at = command.find(root); at != std::string::npos;
         at = command.find(root, at + in_place.size()))
      command.replace(at, root.size(), in_place);
    return command;
  }
  std::string at_seed(const std::string& rest) const { return concat("seed-", seed_, "/", rest); }

  // The digits that train and the digits that measure, as folders of their own; and the embedding
  // of the first.
  void prepare() {
    const DemoSettings s = s_;
    graph_.add({.name = "data",
                .command = "",
                .after = {},
                .settings = {{"data", s.data.string()},
                             {"validation", s.validation},
                             {"limit", s.train_limit},
                             {"images", sha_of(s.data)}},
                .run = [s](JobContext& c) -> Json {
                  ImageSet train = load_dataset(s.data, {.split = "train"}), test;
                  if (s.validation) {
                    const int64_t half = train.size() / 2;
                    test = train.subset(range(half, train.size()));
                    train = train.subset(range(0, half));
                  } else {
                    test = load_dataset(s.data, {.split = "test"});
                  }
                  if (s.train_limit > 0) {
                    train = train.subset(range(0, s.train_limit));
                    test = test.subset(range(0, s.train_limit));
                  }
                  write_idx(c.folder, "train", train);
                  write_idx(c.folder, "test", test);
                  return {{"train", train.size()},
                          {"test", test.size()},
                          {"say", concat(train.size(), " train, ", test.size(), " test")}};
                }});
    add_embed("embed", "data", "data");
    const ImageSet probe = load_dataset(s_.data, {.split = s_.validation ? "train" : "test"});
    demo_.n_test = s_.train_limit > 0 ? s_.train_limit
                   : s_.validation    ? probe.size() - probe.size() / 2
                                      : probe.size();
  }

  static std::vector<int64_t> range(int64_t first, int64_t last) {
    std::vector<int64_t> v;
    for (int64_t i = first; i < last; ++i) v.push_back(i);
    return v;
  }

  static std::string sha_of(const fs::path& folder) {
    const ImageSet set = load_dataset(folder, {.split = "train"});
    return embedding_key(fs::path(), set, {});
  }

  void add_embed(const std::string& name, const std::string& data_job,
                 const std::string& folder_job) {
    const fs::path model = s_.model;
    graph_.add(
        {.name = name,
         .command = concat("build/realfake embed --model ", model.string(), " --train_data_dir ",
                           path(folder_job), " --output_dir ", path(name)),
         .after = {data_job},
         .settings = {{"model", fs::exists(model / "pretrain.json")
                                    ? read_json(model / "pretrain.json")["files"]
                                    : Json(model.string())}},
         .run = [model, folder_job](JobContext& c) -> Json {
           const ImageSet set = load_dataset(c.folder_of(folder_job), {.split = "train"});
           EmbedOptions options;
           const std::string key = embedding_key(model, set, options);
           save_embedded(embed_dataset(c.exec, model, set, options, c.reporter), c.exec,
                         c.folder / "embedded.safetensors", key);
           return {{"images", set.size()}, {"say", concat(set.size(), " images")}};
         }});
  }

  std::string add_finetune(const std::string& name, const std::string& embed, FinetuneOptions o) {
    const std::string job = at_seed("finetune/" + name);
    o.seed = static_cast<uint64_t>(seed_);
    const fs::path model = s_.model;
    const char* mmd = o.loss.matching == Matching::off   ? "off"
                      : o.loss.matching == Matching::rbf ? "rbf"
                                                         : "official";
    const char* token = o.guidance_token == GuidanceToken::image ? "image" : "off";
    const std::string command =
        concat("build/realfake finetune --model ", model.string(), " --embedded ", path(embed),
               "/embedded.safetensors --rank ", o.rank, " --learning_rate ", o.learning_rate,
               " --lr_scheduler ", o.lr_scheduler, " --lr_warmup_steps ", o.lr_warmup_steps,
               " --max_train_steps ", o.max_train_steps, " --train_batch_size ", o.train_batch_size,
               " --batch_by ", o.batch_by, " --mmd ", mmd, " --dist_match ", o.loss.dist_match,
               " --guidance_token ", token, " --seed ", o.seed, " --output_dir ", path(job));
    graph_.add(
        {.name = job,
         .command = command,
         .after = {embed},
         .settings = {{"command", without_root(command)}, {"snr_gamma", o.loss.snr_gamma}},
         .run = [o, model, embed](JobContext& c) -> Json {
           const Embedded data =
               load_embedded(c.exec, c.folder_of(embed) / "embedded.safetensors", "");
           const FinetuneResult r = finetune(c.exec, model, data, o, c.folder, true, c.reporter);
           char text[64];
           std::snprintf(text, sizeof text, "loss %.4f", r.denoise);
           return {{"loss", r.loss}, {"denoise", r.denoise}, {"match", r.match}, {"say", text}};
         }});
    return job;
  }

  // `finetune_job` empty: the base model.
  std::string add_set(const std::string& name, const std::string& embed,
                      const std::string& finetune_job, GenerateOptions o, int64_t version = 0) {
    const std::string job = at_seed("sets/" + name);
    o.seed = static_cast<uint64_t>(1000 * seed_ + version);
    const fs::path model = s_.model;
    const std::string command =
        concat("build/realfake generate --model ", model.string(), " --embedded ", path(embed),
               "/embedded.safetensors ",
               finetune_job.empty()
                   ? ""
                   : "--lora " + path(finetune_job) + "/pytorch_lora_weights.safetensors ",
               "--num_inference_steps ", o.num_inference_steps,
               o.from_noise ? std::string(" --from_noise") : concat(" --strength ", o.strength),
               " --guidance_scale ", o.guidance_scale, " --guidance_token ",
               o.guidance_token == GuidanceToken::image ? "image" : "off", " --versions ",
               o.versions, " --limit ", o.limit, " --batch_size ", o.batch_size, " --grey --seed ",
               o.seed, " --output_dir ", path(job));
    std::vector<std::string> after{embed};
    if (!finetune_job.empty()) after.push_back(finetune_job);
    graph_.add({.name = job,
                .command = command,
                .after = after,
                .settings = {{"command", without_root(command)}},
                .run = [o, model, embed, finetune_job](JobContext& c) -> Json {
                  GenerateOptions options = o;
                  if (!finetune_job.empty())
                    options.lora =
                        (c.folder_of(finetune_job) / "pytorch_lora_weights.safetensors").string();
                  const Embedded data =
                      load_embedded(c.exec, c.folder_of(embed) / "embedded.safetensors", "");
                  const GenerateResult r =
                      generate(c.exec, model, data, options, c.folder, c.reporter);
                  return {{"images", r.written + r.present},
                          {"say", concat(r.written + r.present, " images")}};
                }});
    return job;
  }

  struct Part {
    std::string job;    // its folder is the data set
    int64_t times = 1;  // how often it goes into the union
    fs::path folder;    // instead of a job
  };

  static ImageSet read_union(const std::vector<Part>& parts,
                             const std::function<fs::path(const std::string&)>& folder_of) {
    ImageSet all;
    for (const Part& p : parts) {
      const fs::path from = p.job.empty() ? p.folder : folder_of(p.job);
      const ImageSet one = load_dataset(from, {.split = "train"});
      for (int64_t i = 0; i < p.times; ++i) {
        if (all.size() == 0)
          all = one;
        else
          all.append(one, "the union", from.string());
      }
    }
    return all;
  }

  std::string add_train(const std::string& name, const std::vector<Part>& parts,
                        ClassifierOptions o) {
    const std::string job = at_seed("train/" + name);
    o.seed = static_cast<uint64_t>(seed_);
    std::string folders;
    std::vector<std::string> after{"data"};
    for (const Part& p : parts) {
      if (!p.job.empty() && p.job != "data") after.push_back(p.job);
      for (int64_t i = 0; i < p.times; ++i)
        folders += " " + (p.job.empty() ? p.folder.generic_string() : path(p.job));
    }
    const std::string command =
        concat("build/realfake train --train_data_dir", folders, " --model ", o.model,
               " --max_train_steps ", o.max_train_steps, " --batch_size ", o.batch_size, " --seed ",
               o.seed, " --output_dir ", path(job));
    graph_.add({.name = job,
                .command = command + "\nbuild/realfake evaluate --model " + path(job) +
                           " --data_dir " + path("data"),
                .after = after,
                .settings = {{"command", without_root(command)}},
                .run = [o, parts](JobContext& c) -> Json {
                  const ImageSet train = read_union(parts, c.folder_of);
                  const auto net = train_classifier(c.exec, train, o, c.folder, true, c.reporter);
                  const ImageSet test = load_dataset(c.folder_of("data"), {.split = "test"});
                  const Evaluation e =
                      evaluate_classifier(c.exec, *net->net, test, o.normalization);
                  Json classes = Json::object();
                  for (const ClassAccuracy& a : e.classes)
                    classes[a.name] = 100.0 * static_cast<double>(a.correct) /
                                      static_cast<double>(std::max<int64_t>(1, a.count));
                  return {{"accuracy", e.top1},
                          {"n_test", e.count},
                          {"images", train.size()},
                          {"classes", classes},
                          {"calibration_error", e.calibration_error},
                          {"say", percent(e.top1)}};
                }});
    return job;
  }

  std::string add_distance(const std::string& name, const std::string& set,
                           const std::string& judge) {
    const std::string job = at_seed("distance/" + name),
                      normalization = s_.classifier.normalization;
    graph_.add(
        {.name = job,
         .command = "",
         .after = {"data", set, judge},
         .settings = {{"measure", "relative Frechet distance in classifier features, fidelity"}},
         .run = [set, judge, normalization](JobContext& c) -> Json {
           const auto net = load_resnet(c.exec, c.folder_of(judge));
           const ImageSet real = load_dataset(c.folder_of("data"), {.split = "train"});
           const ImageSet synthetic = load_dataset(c.folder_of(set));
           const SetDistance d = set_distance(c.exec, *net->net, normalization, real, synthetic);
           char text[80];
           std::snprintf(text, sizeof text, "Frechet %.3f, fidelity %.1f %%", d.frechet,
                         d.fidelity);
           return {{"frechet", d.frechet}, {"fidelity", d.fidelity}, {"say", text}};
         }});
    return job;
  }

  std::string add_copies(const std::string& name, const std::string& set) {
    const std::string job = at_seed("copies/" + name);
    graph_.add({.name = job,
                .command = "",
                .after = {"data", set},
                .settings = {{"measure", "nearest neighbours in pixels"}},
                .run = [set](JobContext& c) -> Json {
                  const ImageSet real = load_dataset(c.folder_of("data"), {.split = "train"});
                  const ImageSet synthetic = load_dataset(c.folder_of(set));
                  std::vector<int64_t> source;
                  for (int64_t i = 0; i < synthetic.size(); ++i) source.push_back(i % real.size());
                  const CopyCheck r = copy_check(real, synthetic, source);
                  return {{"own_source_median", r.own_source_median},
                          {"nearest_other_median", r.nearest_other_median},
                          {"own_is_nearest_percent", r.own_is_nearest_percent},
                          {"real_real_median", r.real_real_median},
                          {"say", concat("own source is the nearest for ",
                                         percent(r.own_is_nearest_percent))}};
                }});
    return job;
  }

  void row(const std::string& name, const std::string& train, const std::string& distance = "",
           const std::string& copies = "") {
    auto it = std::find_if(demo_.rows.begin(), demo_.rows.end(),
                           [&](const DemoRow& r) { return r.name == name; });
    if (it == demo_.rows.end()) it = demo_.rows.insert(it, DemoRow{name, {}, {}, {}});
    it->train.push_back(train);
    if (!distance.empty()) it->distance.push_back(distance);
    if (!copies.empty()) it->copies.push_back(copies);
  }

  void keep_rows() {
    std::vector<DemoRow> kept;
    std::vector<std::string> targets{"data"};
    for (const std::string& name : s_.rows) {
      const auto it = std::find_if(demo_.rows.begin(), demo_.rows.end(),
                                   [&](const DemoRow& r) { return r.name == name; });
      if (it == demo_.rows.end()) {
        std::string names;
        for (const DemoRow& r : demo_.rows) names += " " + r.name;
        throw UsageError("--rows: no row '" + name + "'; there are" + names);
      }
      kept.push_back(*it);
      for (const auto* jobs : {&it->train, &it->distance, &it->copies})
        targets.insert(targets.end(), jobs->begin(), jobs->end());
    }
    demo_.rows = kept;
    graph_.keep(targets);
  }

  // A set, the classifier trained on it, its distance to the real digits, and its row.
  void set_row(const std::string& name, const std::string& set, const std::string& judge,
               bool copies = false) {
    const std::string train = add_train(name, {{set, 1, {}}}, s_.classifier);
    row(name, train, add_distance(name, set, judge), copies ? add_copies(name, set) : "");
  }

  void add_seed(int64_t seed) {
    seed_ = seed;
    FinetuneOptions plain = s_.finetune, matched = s_.finetune, token = s_.finetune;
    plain.loss.matching = Matching::off;
    plain.loss.dist_match = 0;
    matched.loss.matching = parse_matching(s_.mmd);
    matched.loss.dist_match = s_.dist_match;
    token = matched;
    token.guidance_token = GuidanceToken::image;
    GenerateOptions prior = s_.generate, noise = s_.generate, with_token = s_.generate;
    noise.from_noise = true;
    with_token.guidance_token = GuidanceToken::image;

    const std::string real = add_train("real", {{"data", 1, {}}}, s_.classifier);
    row("real", real);
    const std::string lora = add_finetune("lora", "embed", plain),
                      mmd = add_finetune("lora+mmd", "embed", matched),
                      mmd_token = add_finetune("lora+mmd+token", "embed", token);
    set_row("base", add_set("base", "embed", "", noise), real, true);
    set_row("base+prior", add_set("base+prior", "embed", "", prior), real, true);

    const std::string& method = s_.token_in_method ? mmd_token : mmd;
    const GenerateOptions& how = s_.token_in_method ? with_token : prior;
    std::vector<Part> parts;
    for (int64_t v = 0; v < s_.versions; ++v) {
      parts.push_back({add_set(concat("realfake-", v + 1), "embed", method, how, v), 1, {}});
      if (v == 0) set_row("realfake_1x", parts[0].job, real, true);
      if (v == 1) row("realfake_2x", add_train("realfake_2x", parts, s_.classifier));
    }
    if (s_.versions > 2)
      row(concat("realfake_", s_.versions, "x"),
          add_train(concat("realfake_", s_.versions, "x"), parts, s_.classifier));
    row("real+realfake", add_train("real+realfake", {{"data", 1, {}}, parts[0]}, s_.classifier));

    set_row("ablation/lora", add_set("lora", "embed", lora, noise), real);
    set_row("ablation/lora+mmd", add_set("lora+mmd", "embed", mmd, noise), real);
    set_row("ablation/lora+prior", add_set("lora+prior", "embed", lora, prior), real);
    const std::string token_set = add_set("lora+mmd+token", "embed", mmd_token, with_token);
    set_row("ablation/lora+mmd+token", token_set, real, true);
    add_few_shots(matched);
  }

  // K digits of each class, drawn by the seed, and nothing else real.
  void add_few_shots(FinetuneOptions finetune) {
    const std::string data = at_seed("fewshot/data");
    const int64_t k = s_.few_per_class, seed = seed_;
    graph_.add({.name = data,
                .command = "",
                .after = {"data"},
                .settings = {{"per_class", k}, {"seed", seed}},
                .run = [k, seed](JobContext& c) -> Json {
                  const ImageSet all = load_dataset(c.folder_of("data"), {.split = "train"});
                  std::vector<int64_t> chosen, count(all.classes.size(), 0);
                  for (const int64_t i :
                       permutation(all.size(), static_cast<uint64_t>(seed), Stream::user, 1))
                    if (count[static_cast<size_t>(all.labels[static_cast<size_t>(i)])]++ < k)
                      chosen.push_back(i);
                  write_idx(c.folder, "train", all.subset(chosen));
                  return {{"images", chosen.size()}, {"say", concat(chosen.size(), " digits")}};
                }});
    const std::string embed = at_seed("fewshot/embed");
    add_embed(embed, data, data);
    finetune.max_train_steps = s_.few_finetune_steps;
    finetune.lr_warmup_steps = std::min(finetune.lr_warmup_steps, finetune.max_train_steps / 2);
    const std::string tuned = add_finetune("fewshot", embed, finetune);
    GenerateOptions prior = s_.generate;
    prior.versions = s_.few_versions;
    prior.strength = s_.few_strength;
    const std::string set = add_set("fewshot", embed, tuned, prior);
    ClassifierOptions c = s_.classifier;
    c.max_train_steps = s_.few_classifier_steps;
    // In a union each half of a batch comes from one side: the few real digits go in as often as
    // there are versions.
    const Part real{data, s_.few_versions, {}};
    row("fewshot/real", add_train("fewshot-real", {{data, 1, {}}}, c));
    row("fewshot/realfake", add_train("fewshot-realfake", {{set, 1, {}}}, c));
    row("fewshot/real+realfake", add_train("fewshot-real+realfake", {real, {set, 1, {}}}, c));
    row("fewshot/real+printed", add_train("fewshot-real+printed", {real, {"", 1, s_.printed}}, c));
  }

  JobGraph& graph_;
  const DemoSettings& s_;
  Demo demo_;
  int64_t seed_ = 0;
};

}  // namespace

Demo add_demo_jobs(JobGraph& graph, const DemoSettings& settings) {
  return DemoJobs(graph, settings).add();
}

}  // namespace realfake
