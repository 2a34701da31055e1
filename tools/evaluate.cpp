// 1:1 face verification of a net on pairs of images: accuracy over folds, TAR at FAR, ROC, pictures.
#include <gflags/gflags.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <future>
#include <iomanip>
#include <iostream>
#include <thread>

#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include "crema/caffe_files.hpp"
#include "crema/embedder.hpp"
#include "crema/eval.hpp"
#include "crema/io.hpp"
#include "eval/plot.hpp"
#include "gpu_flag.hpp"
#include "pair_images.hpp"
#include "tool.hpp"

DEFINE_string(model, "", "The net: a prototxt file, a deploy net or a training net (cut at its embedding).");
DEFINE_bool(lenient, false, "Skip fields of the net that Crema does not know, each with a warning.");
DEFINE_string(weights, "", "Its weights: .caffemodel files separated by commas; later ones win.");
DEFINE_bool(untrained, false, "Use random initial weights where --weights is not given.");
DEFINE_string(
    pairs, "",
    "A list of pairs (LFW's pairs.txt or lines \"a b same\") or a pair database made by convert_pairs.");
DEFINE_string(root, "", "Folder of the images of a list.");
DEFINE_string(
    blob, "",
    "The embedding's blob; by default what the net's head classifies, else the last top with two axes.");
DEFINE_string(gpu, "", "Run on this GPU, a number.");
DEFINE_bool(flip, false, "Add the embedding of the mirrored image to each embedding.");
DEFINE_int32(folds, 10, "Folds; a list that has folds keeps its own unless this flag is given.");
DEFINE_int32(batch, 64, "Images per forward pass.");
DEFINE_bool(resize, false, "Resize images to the net's input instead of refusing other sizes.");
DEFINE_string(mean_value, "",
              "Subtracted from the pixels: one value or B,G,R. Default: the net's data layer, or 127.5 for a "
              "deploy net.");
DEFINE_double(scale, 0,
              "Multiplies them afterwards. Default: the net's data layer, or 0.0078125 for a deploy net.");
DEFINE_bool(rgb, false,
            "Channel order of the input. Default: the net's data layer, or B, G, R for a deploy net.");
DEFINE_string(roc, "", "Write the ROC to this CSV file: threshold, FAR, TAR.");
DEFINE_string(picture, "", "Write a picture of the ROC to this PNG file.");
DEFINE_string(report, "", "Write figures, tables and pictures to this folder, for the tool report.");

namespace {

using namespace crema;

bool Given(const char* flag) {
  return !gflags::GetCommandLineFlagInfoOrDie(flag).is_default;
}

std::string Fixed(double value, int digits) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(digits) << value;
  return out.str();
}

// The flags over what the data layer says; insightface's usual input where there is no data layer.
void SetTransform(EmbeddingNet* net) {
  TransformationParameter* transform = &net->transform;
  if (!net->has_data_layer) {
    transform->add_mean_value(127.5f);
    transform->set_scale(0.0078125f);
  }
  if (Given("mean_value")) {
    transform->clear_mean_value();
    transform->clear_mean_file();
    for (const std::string& value : SplitAt(',', FLAGS_mean_value)) {
      size_t end = 0;
      try {
        transform->add_mean_value(std::stof(value, &end));
      } catch (const std::logic_error&) {}
      Require(end == value.size() && end > 0, "--mean_value is '", FLAGS_mean_value,
              "' where one number or three, separated by commas, were expected.");
    }
  }
  if (Given("scale")) transform->set_scale(static_cast<float>(FLAGS_scale));
  if (Given("rgb")) transform->set_rgb(FLAGS_rgb);
}

std::string Describe(const EmbeddingNet& net) {
  const TransformationParameter& transform = net.transform;
  std::string mean;
  for (float value : transform.mean_value()) mean += (mean.empty() ? "" : ", ") + Concat(value);
  if (transform.has_mean_file()) mean = transform.mean_file();
  return Concat(net.channels == 1 ? "grey"
                : transform.rgb() ? "R, G, B"
                                  : "B, G, R",
                ", (pixel - ",
                mean.empty()                          ? "0"
                : mean.find(',') == std::string::npos ? mean
                                                      : "(" + mean + ")",
                ") * ", transform.scale());
}

// Decodes images to the size that the embedder takes.
class Decoder {
 public:
  Decoder(const PairImages& pairs, const EmbeddingNet& net) : pairs_(&pairs) {
    flags_ = net.channels == 1 ? cv::IMREAD_GRAYSCALE : cv::IMREAD_COLOR;
    if (net.resize_height > 0 && net.resize_width > 0) {
      target_ = cv::Size(static_cast<int>(net.resize_width), static_cast<int>(net.resize_height));
      resize_ = true;
    } else if (FLAGS_resize && net.height > 0) {
      target_ = cv::Size(static_cast<int>(net.width), static_cast<int>(net.height));
      resize_ = true;
    } else {
      target_ = Read(0).size();
      resize_ = FLAGS_resize;
    }
  }

  int64_t height() const { return target_.height; }
  int64_t width() const { return target_.width; }

  cv::Mat operator()(size_t index) const {
    cv::Mat image = Read(index);
    if (image.size() == target_) return image;
    Require(resize_, "the image ", pairs_->Name(index), " is ", image.cols, "x", image.rows, " where ",
            target_.width, "x", target_.height, ", the size of ", pairs_->Name(0),
            ", was expected; --resize would resize it.");
    cv::Mat resized;
    cv::resize(image, resized, target_);
    return resized;
  }

 private:
  cv::Mat Read(size_t index) const {
    const std::string bytes = pairs_->Bytes(index);
    cv::Mat image;
    if (!bytes.empty())
      image = cv::imdecode(cv::Mat(1, static_cast<int>(bytes.size()), CV_8U, const_cast<char*>(bytes.data())),
                           flags_);
    Require(!image.empty(), "the image ", pairs_->Name(index), " cannot be decoded.");
    return image;
  }

  const PairImages* pairs_;
  int flags_ = 0;
  cv::Size target_;
  bool resize_ = false;
};

// Inputs of images [begin, end), decoded by all threads, while the net may be at work.
std::vector<float> PrepareBatch(const Decoder& decode, const Embedder& embedder, size_t begin, size_t end,
                                bool mirror) {
  const size_t count = static_cast<size_t>(embedder.input_count());
  std::vector<float> inputs((end - begin) * count);
  std::atomic<size_t> next = begin;
  std::vector<std::future<void>> workers;
  for (unsigned i = 0; i < std::max(1u, std::thread::hardware_concurrency()); ++i) {
    workers.push_back(std::async(std::launch::async, [&] {
      for (size_t index = next++; index < end; index = next++) {
        const cv::Mat image = decode(index);
        embedder.Prepare({image.data, image.rows, image.cols, image.channels()}, mirror,
                         inputs.data() + (index - begin) * count);
      }
    }));
  }
  for (std::future<void>& worker : workers) worker.wait();
  for (std::future<void>& worker : workers) worker.get();
  return inputs;
}

void ShowProgress(size_t done, size_t all) {
  if (isatty(STDERR_FILENO))
    std::cerr << "\r" << done << " of " << all << " images" << (done == all ? "\n" : "") << std::flush;
}

// Embeddings of all images at unit length; with --flip the sum over the image and its mirror image.
std::vector<float> EmbedAll(const Context& ctx, const Decoder& decode, size_t images, Embedder* embedder) {
  const size_t batch = static_cast<size_t>(FLAGS_batch), dim = static_cast<size_t>(embedder->dim());
  std::vector<float> embeddings(images * dim, 0);
  const auto prepare = [&](size_t begin, bool mirror) {
    return std::async(std::launch::async, [&decode, embedder, begin, batch, images, mirror] {
      return PrepareBatch(decode, *embedder, begin, std::min(images, begin + batch), mirror);
    });
  };
  std::future<std::vector<float>> next = prepare(0, false);
  for (size_t begin = 0; begin < images; begin += batch) {
    const size_t end = std::min(images, begin + batch);
    embedder->SetBatch(ctx, static_cast<int64_t>(end - begin));
    for (bool mirror : {false, true}) {
      if (mirror && !FLAGS_flip) continue;
      const std::vector<float> inputs = next.get();
      if (FLAGS_flip && !mirror) {
        next = prepare(begin, true);
      } else if (end < images) {
        next = prepare(end, false);
      }
      const std::vector<float> values = embedder->Run(ctx, inputs);
      for (size_t i = 0; i < values.size(); ++i) embeddings[begin * dim + i] += values[i];
    }
    ShowProgress(end, images);
  }
  NormalizeRows(static_cast<int64_t>(images), static_cast<int64_t>(dim), embeddings.data());
  return embeddings;
}

std::vector<int64_t> FoldsOf(const PairImages& set, const std::vector<uint8_t>& same) {
  if (set.folds == 0 || Given("folds")) return MakeFolds(same, FLAGS_folds);
  std::vector<int64_t> fold;
  for (const FacePair& pair : set.pairs) fold.push_back(pair.fold);
  return fold;
}

// ------------------------------------------------------------------------------------------------- output

// Name and value of each figure, as printed and as report reads them.
using Figures = std::vector<std::pair<std::string, std::string>>;

void AddRates(const Verification& v, Figures* figures) {
  for (double far : {1e-2, 1e-3, 1e-4}) {
    const std::optional<double> tar = TarAtFar(v, far);
    const std::string name = "TAR at FAR 1e" + std::to_string(std::lround(std::log10(far)));
    if (tar) {
      figures->push_back({name, Fixed(100 * *tar, 2) + " %"});
    } else if (far > 5e-4) {
      figures->push_back({name, Concat("not measured: it needs ", PairsForFar(far),
                                       " different pairs, here are ", v.different_pairs)});
    }
  }
}

Figures MakeFigures(const PairImages& set, const EmbeddingNet& net, const Embedder& embedder,
                    const Verification& v, double seconds) {
  Figures figures;
  figures.push_back({"net", FLAGS_model});
  figures.push_back({"weights", FLAGS_weights.empty() ? "untrained" : FLAGS_weights});
  figures.push_back({"pairs", Concat(v.pairs, " (", v.same_pairs, " same, ", v.different_pairs,
                                     " different) of ", set.images(), " images, ", FLAGS_pairs)});
  figures.push_back({"input", Describe(net)});
  figures.push_back({"embedding", Concat("blob ", embedder.blob(), ", ", embedder.dim(), " values",
                                         FLAGS_flip ? ", image and mirror image added" : "")});
  figures.push_back({"accuracy", Concat(Fixed(100 * v.accuracy, 2), " % ± ", Fixed(100 * v.deviation, 2),
                                        " % over ", v.folds, " folds")});
  AddRates(v, &figures);
  figures.push_back({"AUC", Fixed(v.auc, 5)});
  figures.push_back({"EER", Fixed(100 * v.eer, 2) + " %"});
  figures.push_back({"best threshold", Fixed(v.threshold, 2) + " (squared distance)"});
  figures.push_back({"speed", Fixed(static_cast<double>(set.images()) / seconds, 1) + " images/s"});
  return figures;
}

std::string RocCsv(const Verification& v) {
  std::ostringstream out;
  out << "threshold,far,tar\n" << std::setprecision(9);
  for (const RocPoint& point : v.roc) out << point.threshold << "," << point.far << "," << point.tar << "\n";
  return out.str();
}

std::string ScoresCsv(const PairImages& set, const std::vector<double>& distance) {
  std::ostringstream out;
  out << "first,second,same,distance\n" << std::setprecision(9);
  for (size_t k = 0; k < distance.size(); ++k) {
    const FacePair& pair = set.pairs[k];
    out << '"' << set.Name(static_cast<size_t>(pair.first)) << "\",\""
        << set.Name(static_cast<size_t>(pair.second)) << "\"," << pair.same << "," << distance[k] << "\n";
  }
  return out.str();
}

// Up to eight pairs of a kind and verdict: of the right ones an even choice, of the wrong ones the worst.
PairSection Section(const std::string& heading, const PairImages& set, const std::vector<double>& distance,
                    double threshold, bool same, bool accepted) {
  constexpr size_t kShown = 8;
  std::vector<size_t> chosen;
  for (size_t k = 0; k < distance.size(); ++k)
    if (set.pairs[k].same == same && (distance[k] < threshold) == accepted) chosen.push_back(k);
  PairSection section{Concat(heading, " (", chosen.size(), " pairs)"), {}};
  const bool right = same == accepted;
  const auto error = [&](size_t k) { return std::abs(distance[k] - threshold); };
  if (!right)
    std::sort(chosen.begin(), chosen.end(), [&](size_t a, size_t b) { return error(a) > error(b); });
  const size_t count = std::min(kShown, chosen.size()),
               stride = right ? chosen.size() / std::max<size_t>(1, count) : 1;
  for (size_t i = 0; i < count; ++i) {
    const FacePair& pair = set.pairs[chosen[i * stride]];
    section.pairs.push_back({set.Bytes(static_cast<size_t>(pair.first)),
                             set.Bytes(static_cast<size_t>(pair.second)), distance[chosen[i * stride]],
                             right});
  }
  return section;
}

void WriteReport(const PairImages& set, const std::vector<double>& distance, const std::vector<uint8_t>& same,
                 const Verification& v, const Figures& figures) {
  const std::string folder = FLAGS_report + "/";
  MakeDirectories(folder);
  std::string text;
  for (const auto& [name, value] : figures) text += name + ": " + value + "\n";
  WriteFile(folder + "figures.txt", text);
  WriteFile(folder + "roc.csv", RocCsv(v));
  WriteFile(folder + "scores.csv", ScoresCsv(set, distance));
  WriteFile(folder + "roc.png", DrawRoc(v));
  WriteFile(folder + "scores.png", DrawScores(distance, same, v.threshold));
  const auto section = [&](const char* heading, bool is_same, bool accepted) {
    return Section(heading, set, distance, v.threshold, is_same, accepted);
  };
  const std::vector<PairSection> sections = {section("The same person, accepted", true, true),
                                             section("Different people, rejected", false, false),
                                             section("The same person, rejected: the worst", true, false),
                                             section("Different people, accepted: the worst", false, true)};
  WriteFile(folder + "pairs.png",
            DrawPairs("Sample pairs, judged at a distance of " + Fixed(v.threshold, 2), sections));
}

void CheckFlags() {
  Require(!FLAGS_model.empty(), "--model is missing: the prototxt file of a net.");
  Require(!FLAGS_pairs.empty(), "--pairs is missing: a list or a database of pairs of images.");
  Require(!FLAGS_weights.empty() || FLAGS_untrained,
          "--weights is missing: files of weights for the net (or --untrained for random ones).");
  Require(FLAGS_weights.empty() || !FLAGS_untrained, "--weights and --untrained exclude each other.");
  Require(FLAGS_batch > 0, "--batch is ", FLAGS_batch, " where at least 1 was expected.");
}

void Run() {
  CheckFlags();
  const PairImages set = ReadPairImages(FLAGS_pairs, FLAGS_root);
  const FileOptions files = {.lenient = FLAGS_lenient, .say = PrintNote("evaluate")};
  EmbeddingNet net = CutAtEmbedding(ReadNet(FLAGS_model, files), FLAGS_blob, FLAGS_model);
  SetTransform(&net);
  const std::unique_ptr<Communicator> alone = NewSelfCommunicator();
  const std::unique_ptr<Workplace> work = NewWorkplace(*alone, FLAGS_gpu);
  Workplace& place = *work;
  const Decoder decode(set, net);
  Embedder embedder(place, net, decode.height(), decode.width());
  for (const std::string& file : SplitAt(',', FLAGS_weights)) {
    embedder.CopyWeights(ReadWeights(file, files), file);
  }
  if (!FLAGS_untrained) embedder.RequireAllWeights();

  const auto start = std::chrono::steady_clock::now();
  const std::vector<float> embeddings = EmbedAll(place, decode, set.images(), &embedder);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const std::vector<double> distance = PairDistances(embeddings, embedder.dim(), set.pairs);
  std::vector<uint8_t> same;
  for (const FacePair& pair : set.pairs) same.push_back(pair.same);
  const Verification v = Verify(distance, same, FoldsOf(set, same));

  const Figures figures = MakeFigures(set, net, embedder, v, seconds);
  for (const auto& [name, value] : figures) std::cout << std::left << std::setw(16) << name << value << "\n";
  if (!FLAGS_roc.empty()) WriteFile(FLAGS_roc, RocCsv(v));
  if (!FLAGS_picture.empty()) WriteFile(FLAGS_picture, DrawRoc(v));
  if (!FLAGS_report.empty()) WriteReport(set, distance, same, v, figures);
}

}  // namespace

int main(int argc, char** argv) {
  crema::LetWaitingThreadsSleep(argv);
  gflags::SetUsageMessage(
      "1:1 verification of a net: evaluate --model=NET --weights=FILE --pairs=LIST --root=DIR");
  gflags::ParseCommandLineFlags(&argc, &argv, true);
  return RunTool("evaluate", nullptr, [&] {
    Require(argc == 1, "evaluate takes flags only and was given '", argc > 1 ? argv[1] : "", "'.");
    Run();
    return 0;
  });
}
