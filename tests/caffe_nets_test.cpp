// Nets and solvers of public repositories as they were published (shared/data/caffe): each is read, upgraded
// and built in both phases, runs forward and, in TRAIN, backward. Prints how many do, and why the others do
// not.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iostream>
#include <map>
#include <random>
#include <set>

#include "crema/caffe_files.hpp"
#include "crema/net.hpp"
#include "crema/solver.hpp"
#include "data_fixtures.hpp"
#include "net/filter.hpp"
#include "net/summary.hpp"
#include "solver/optimizer.hpp"
#include "test_place.hpp"

namespace crema {
namespace {

namespace fs = std::filesystem;

// What cannot run, and why.
struct Exception {
  const char *file, *reason;
};
constexpr Exception kExceptions[] = {
    {"lsy17096535+face-landmark/train/landmark_train", "its loss is a class in Python"},
    {"AMSoftmax/prototxt/auto/face_train_test_auto",
     "GlobalLSEMargin, a margin of which only this file is known"},
    {"arcface-caffe/cosin_add_m", "its loss is FocalLoss"},
    {"arcface-caffe/AdaCos/adacos_add_m_scale", "AdaCosAddmScale"},
    {"NormFace/prototxt/normalized_Euclidean_triplet", "InnerDistance and GeneralTripletLoss"},
    {"NormFace/prototxt/normalized_Euclidean_contrastive", "InnerDistance and GeneralContrastiveLoss"},
    {"NormFace/prototxt/combine_softmax_contrastive", "InnerDistance and GeneralContrastiveLoss"},
};

// Nets that have words which Crema does not know, but run without them.
constexpr Exception kLenient[] = {
    {"NormFace/prototxt/scaled_cosine_softmax", "accuracy_param.min_is_better"},
};

// What files leave open: blobs from outside a net that is only a part of one, and shapes of what a source
// gives.
const std::map<std::string, std::map<std::string, Shape>> kShapes = {
    {"NormFace/prototxt/", {{"last_ip_layer", {2, 512}}, {"label", {2}}}},
    {"AMSoftmax/prototxt/GNAP", {{"res4_3", {2, 512, 7, 6}}}},
    {"lsy17096535+face-landmark/train", {{"X", {2, 3, 40, 40}}, {"landmarks", {2, 136}}}},
    {"caffe-face/mnist_example", {{"data", {2, 1, 28, 28}}}},
};

constexpr int64_t kBatch = 2;

std::string Find(const Exception* begin, const Exception* end, const std::string& path) {
  for (const Exception* known = begin; known != end; ++known)
    if (path.find(known->file) != std::string::npos) return known->reason;
  return "";
}

std::map<std::string, Shape> ShapesFor(const std::string& path) {
  std::map<std::string, Shape> shapes;
  for (const auto& [part, of_blobs] : kShapes)
    if (path.find(part) != std::string::npos) shapes.insert(of_blobs.begin(), of_blobs.end());
  return shapes;
}

// A small batch of everything that comes from outside; Inputs for the bottoms that nothing makes.
NetParameter Ready(const NetParameter& net, const std::string& path) {
  const std::map<std::string, Shape> shapes = ShapesFor(path);
  NetParameter ready = ReplaceSources(net, {kBatch, 0, 0, 0}, shapes);
  std::set<std::string> made;
  NetParameter outside;
  for (LayerParameter& layer : *ready.mutable_layer()) {
    for (const std::string& bottom : layer.bottom()) {
      const auto shape = shapes.find(bottom);
      if (made.count(bottom) > 0 || shape == shapes.end()) continue;
      LayerParameter* input = outside.add_layer();
      input->set_name("outside_" + bottom);
      input->set_type("Input");
      input->add_top(bottom);
      BlobShape* dims = input->mutable_input_param()->add_shape();
      for (int64_t size : shape->second) dims->add_dim(size);
      made.insert(bottom);
    }
    made.insert(layer.top().begin(), layer.top().end());
    if (layer.type() != "Input") continue;
    for (BlobShape& shape : *layer.mutable_input_param()->mutable_shape())
      if (shape.dim_size() > 0 && shape.dim(0) > kBatch) shape.set_dim(0, kBatch);
  }
  for (LayerParameter& layer : *ready.mutable_layer()) outside.add_layer()->Swap(&layer);
  ready.mutable_layer()->Swap(outside.mutable_layer());
  return ready;
}

bool IsLabel(const Blob& blob) {
  return blob.axes() == 1 || blob.name().find("label") != std::string::npos;
}

// Pixels as a data layer leaves them; labels 0 and 1.
void FillInputs(Net* net) {
  std::mt19937 random(7);
  std::uniform_real_distribution<float> uniform(-1, 1);
  for (const auto& layer : net->layers()) {
    if (layer->type() != "Input") continue;
    for (const std::string& top : layer->spec().top()) {
      const Blob& blob = net->blob(top);
      std::vector<float> values(static_cast<size_t>(blob.count()));
      for (size_t i = 0; i < values.size(); ++i)
        values[i] = IsLabel(blob) ? static_cast<float>(i % 2) : uniform(random);
      net->SetInput(top, values);
    }
  }
}

void RunIn(Phase phase, const NetParameter& spec, const std::string& path) {
  TestPlace place;
  const NetOptions options{.phase = phase, .backward = phase == TRAIN};
  Net net(place, Ready(FilterNet(spec, options), path), options);
  FillInputs(&net);
  const double loss = net.Forward(place);
  Require(std::isfinite(loss), "the loss is ", loss);
  if (phase == TRAIN) {
    net.ZeroParamGrads();
    net.Backward(place);
  }
}

// Phases that have layers other than sources.
std::vector<Phase> PhasesOf(const NetParameter& spec) {
  std::vector<Phase> phases;
  for (Phase phase : {TRAIN, TEST}) {
    const NetParameter net = FilterNet(spec, {.phase = phase});
    if (std::any_of(net.layer().begin(), net.layer().end(),
                    [](const auto& layer) { return !IsSource(layer); }))
      phases.push_back(phase);
  }
  return phases;
}

class Collection {
 public:
  void Try(const std::string& path) {
    ++total_;
    const std::string reason = Find(std::begin(kExceptions), std::end(kExceptions), path);
    std::string error;
    try {
      Build(path);
      ++built_;
    } catch (const std::exception& failure) {
      error = failure.what();
    }
    if (error.empty()) {
      if (!reason.empty()) std::cout << path << " is an exception (" << reason << "), but builds\n";
      return;
    }
    std::cout << path << ": " << (reason.empty() ? error : "exception: " + reason) << "\n";
    if (reason.empty()) ADD_FAILURE() << path << ": " << error;
  }
  void Report() const {
    std::cout << "built " << built_ << " / " << total_ << " nets, " << lenient_ << " of them leniently\n";
  }
  int total() const { return total_; }

 private:
  void Build(const std::string& path) {
    const FileOptions quiet = {.say = [](const std::string&) {}};
    NetParameter spec;
    try {
      spec = ReadNet(path, quiet);
    } catch (const Error&) {
      if (Find(std::begin(kLenient), std::end(kLenient), path).empty()) throw;
      spec = ReadNet(path, {.lenient = true, .say = quiet.say});
      ++lenient_;
    }
    std::string missing;
    for (const std::string& type : MissingTypes(ReplaceSources(spec, {1, 0, 0, 0})))
      missing += (missing.empty() ? "type " : ", ") + type;
    Require(missing.empty(), missing, " not there");
    for (Phase phase : PhasesOf(spec)) RunIn(phase, spec, path);
  }

  int total_ = 0, built_ = 0, lenient_ = 0;
};

std::vector<std::string> Prototxts(bool solvers) {
  std::vector<std::string> paths;
  const std::string folder = SharedData() + "/caffe";
  if (SharedData().empty() || !fs::exists(folder)) return paths;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = entry.path().filename();
    if (!name.ends_with(".prototxt")) continue;
    if ((name.find("solver") != std::string::npos) == solvers) paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

TEST(CaffeNets, Build) {
  const std::vector<std::string> paths = Prototxts(false);
  if (paths.empty()) GTEST_SKIP() << "shared/data/caffe is absent";
  Collection collection;
  for (const std::string& path : paths) collection.Try(path);
  collection.Report();
  EXPECT_GT(collection.total(), 100);
}

TEST(CaffeSolvers, AreRead) {
  const std::vector<std::string> paths = Prototxts(true);
  if (paths.empty()) GTEST_SKIP() << "shared/data/caffe is absent";
  for (const std::string& path : paths) {
    EXPECT_EQ(ErrorOf([&] {
                const SolverParameter solver = ReadSolver(path);
                EXPECT_FALSE(SolverTypeOf(solver).empty());
                EXPECT_GT(LearningRate(solver, 0), 0);
              }),
              "")
        << path;
  }
  std::cout << "read " << paths.size() << " solvers\n";
}

}  // namespace
}  // namespace crema
