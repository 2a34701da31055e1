#include "eval/training_log.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <sstream>

#include "crema/io.hpp"

namespace crema {
namespace {

// The number after the first `key` in a line; nothing where there is no key or no number.
std::optional<double> NumberAfter(const std::string& line, const std::string& key) {
  const size_t at = line.find(key);
  if (at == std::string::npos) return std::nullopt;
  const char* begin = line.c_str() + at + key.size();
  char* end = nullptr;
  const double value = std::strtod(begin, &end);
  if (end == begin) return std::nullopt;
  return value;
}

// A resumed run goes over some iterations again: what was there of them before is replaced.
void Append(double iteration, double value, TrainingCurve* curve) {
  while (!curve->iteration.empty() && curve->iteration.back() >= iteration) {
    curve->iteration.pop_back();
    curve->value.pop_back();
  }
  curve->iteration.push_back(iteration);
  curve->value.push_back(value);
}

// "... Test net output #1: loss = 82.4 (* 1 = 82.4 loss)"
void ReadTestOutput(const std::string& line, double iteration, std::vector<TrainingCurve>* outputs) {
  const size_t begin = line.find(": ", line.find("Test net output #"));
  const size_t end = line.find(" = ", begin);
  if (begin == std::string::npos || end == std::string::npos) return;
  const std::string name = line.substr(begin + 2, end - begin - 2);
  const std::optional<double> value = NumberAfter(line.substr(end), " = ");
  if (!value) return;
  auto curve = std::find_if(outputs->begin(), outputs->end(), [&](const auto& c) { return c.label == name; });
  if (curve == outputs->end()) curve = outputs->insert(curve, {name, {}, {}});
  Append(iteration, *value, &*curve);
}

}  // namespace

TrainingLog ReadTrainingLog(const std::string& path) {
  TrainingLog log;
  log.loss.label = "training loss";
  log.rate.label = "learning rate";
  std::istringstream in(ReadFile(path));
  double iteration = 0;
  for (std::string line; std::getline(in, line);) {
    if (const std::optional<double> at = NumberAfter(line, "Iteration ")) iteration = *at;
    if (line.find("Test net output #") != std::string::npos)
      ReadTestOutput(line, iteration, &log.test_outputs);
    if (line.find("Iteration ") == std::string::npos) continue;
    if (const std::optional<double> loss = NumberAfter(line, ", loss = "))
      Append(iteration, *loss, &log.loss);
    if (const std::optional<double> rate = NumberAfter(line, ", lr = ")) Append(iteration, *rate, &log.rate);
    if (line.find(" iter/s") != std::string::npos)
      log.iterations_per_second = NumberAfter(line, " (").value_or(log.iterations_per_second);
  }
  Require(!log.loss.value.empty(), "the log ", path,
          " has no line of the form \"Iteration N ..., loss = x\"");
  return log;
}

std::string Summary(const TrainingLog& log) {
  std::ostringstream out;
  out << static_cast<int64_t>(log.loss.iteration.back()) << " iterations, loss from "
      << log.loss.value.front() << " to " << log.loss.value.back();
  if (log.iterations_per_second > 0) out << ", " << log.iterations_per_second << " iterations/s";
  out << ".";
  return out.str();
}

}  // namespace crema
