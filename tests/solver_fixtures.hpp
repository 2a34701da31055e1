// What the solver's tests share: a folder of their own, the lines of the log, and a small face-like net with
// its data, cut over any number of ranks.
#pragma once

#include <glog/logging.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "crema/io.hpp"
#include "crema/solver.hpp"

namespace crema {

class TempFolder {
 public:
  TempFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "crema_test_XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~TempFolder() { std::filesystem::remove_all(path_); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Keeps what is logged while it lives.
class LogCapture : public google::LogSink {
 public:
  LogCapture() { google::AddLogSink(this); }
  ~LogCapture() override { google::RemoveLogSink(this); }
  void send(google::LogSeverity, const char*, const char*, int, const struct tm*, const char* message,
            size_t length) override {
    std::lock_guard<std::mutex> lock(mutex_);
    lines_.emplace_back(message, length);
  }
  std::vector<std::string> With(const std::string& part) const {
    std::vector<std::string> found;
    for (const std::string& line : lines_)
      if (line.find(part) != std::string::npos) found.push_back(line);
    return found;
  }

 private:
  std::mutex mutex_;
  std::vector<std::string> lines_;
};

inline std::string MessageOf(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

constexpr int64_t kGlobalBatch = 12, kInputs = 6, kClasses = 7;

// A small recogniser for `batch` samples per rank: InnerProduct, PReLU, DistPartialFC, MarginSoftmax.
inline std::string RecogniserNet(int64_t batch, const std::string& classifier_options = "sample_rate: 0.5") {
  const std::string size = std::to_string(batch);
  return "name: 'recogniser' "
         "layer { name: 'data' type: 'Input' top: 'data' top: 'label' input_param { "
         "shape { dim: " +
         size + " dim: 6 } shape { dim: " + size +
         " } } } "
         "layer { name: 'fc1' type: 'InnerProduct' bottom: 'data' top: 'fc1' "
         "inner_product_param { num_output: 5 weight_filler { type: 'xavier' } } } "
         "layer { name: 'prelu' type: 'PReLU' bottom: 'fc1' top: 'fc1' } "
         "layer { name: 'classes' type: 'DistPartialFC' bottom: 'fc1' bottom: 'label' top: 'logits' top: "
         "'own' "
         "dist_partial_fc_param { num_output: 7 weight_filler { type: 'gaussian' std: 0.1 } " +
         classifier_options +
         " } } "
         "layer { name: 'loss' type: 'MarginSoftmax' bottom: 'logits' bottom: 'own' top: 'loss' "
         "margin_softmax_param { scale: 8 m3: 0.1 } }";
}

// The global batch of an iteration, cut to this rank's rows.
inline void FeedRecogniser(Solver* solver, const Communicator& comm) {
  std::mt19937_64 engine(1000 + static_cast<uint64_t>(solver->iteration()));
  std::normal_distribution<float> normal;
  std::vector<float> data(kGlobalBatch * kInputs), labels(kGlobalBatch);
  for (float& x : data) x = normal(engine);
  for (float& label : labels) label = static_cast<float>(engine() % kClasses);
  const int64_t rows = kGlobalBatch / comm.size(), first = comm.rank() * rows;
  solver->net().SetInput("data", {data.begin() + first * kInputs, data.begin() + (first + rows) * kInputs});
  solver->net().SetInput("label", {labels.begin() + first, labels.begin() + first + rows});
}

inline void Train(Solver* solver, const Communicator& comm, int64_t iterations) {
  for (int64_t i = 0; i < iterations; ++i) {
    FeedRecogniser(solver, comm);
    solver->Step(1);
  }
}

}  // namespace crema
