// A RunPlan in words and tables.
#include <cmath>
#include <iomanip>
#include <sstream>

#include "crema/error.hpp"
#include "crema/run_plan.hpp"

namespace crema {
namespace {

std::string Fixed(double number, int digits) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(digits) << number;
  return out.str();
}

// 12,345,678
std::string Grouped(int64_t number) {
  std::string digits = std::to_string(number);
  for (int64_t at = static_cast<int64_t>(digits.size()) - 3; at > 0; at -= 3)
    digits.insert(static_cast<size_t>(at), ",");
  return digits;
}

// Down to three digits, so that what is said to fit does.
std::string RoundedDown(int64_t number) {
  int64_t unit = 1;
  while (number / unit >= 1000) unit *= 10;
  return Grouped(number / unit * unit);
}

class Lines {
 public:
  void Row(const std::string& left, const std::vector<std::string>& columns) {
    out_ << std::left << std::setw(44) << left << std::right;
    for (const std::string& column : columns) out_ << std::setw(21) << column;
    out_ << "\n";
  }
  void Bytes(const std::string& left, int64_t bytes) {
    Row(left, {Fixed(static_cast<double>(bytes) / 1e6, 1)});
  }
  std::string text() const { return out_.str(); }

 private:
  std::ostringstream out_;
};

std::string HeadLine(const RunPlan& plan) {
  if (plan.classes == 0) return "no DistPartialFC\n";
  return Concat(Grouped(plan.classes), " identities of ", plan.width, " numbers, ", Grouped(plan.rows),
                " of them on rank 0, ", DistPartialFCParameter::Precision_Name(plan.head.precision()), " in ",
                DistPartialFCParameter::Storage_Name(plan.head.storage()), ", sample_rate ",
                plan.head.sample_rate(), "\n");
}

std::string MemoryLines(const RunPlan& plan) {
  Lines lines;
  lines.Row("memory of a rank", {"MB"});
  lines.Bytes("parameters but class centres", plan.weights);
  lines.Bytes("their gradients", plan.weight_grads);
  lines.Bytes("their optimiser state", plan.weight_state);
  lines.Bytes("activations and their gradients", plan.activations);
  lines.Bytes("batches of data made ahead", plan.batches);
  lines.Bytes("workspace of layers", plan.workspace);
  if (plan.in_files == 0 && plan.on_host == 0) {
    lines.Bytes("class centres", plan.centres);
    lines.Bytes("their optimiser state", plan.centre_state);
  } else if (plan.in_files > 0) {
    lines.Bytes("class centres and state, resident part", plan.resident);
  }
  lines.Bytes("workspace of the head", plan.head_workspace());
  for (const MemoryPart& part : plan.head_parts)
    if (part.bytes > 0) lines.Bytes("  " + part.what, part.bytes);
  lines.Bytes("sum", plan.memory());
  if (plan.on_host > 0) lines.Bytes("on the host: class centres and state", plan.on_host);
  if (plan.in_files > 0) lines.Bytes("on disk: class centres and state", plan.in_files);
  return lines.text();
}

std::string CommunicationLines(const RunPlan& plan) {
  if (plan.ranks == 1) return "communication: none, there is one rank\n";
  static const char* const kNames[] = {"all-reduce", "all-gather", "reduce-scatter"};
  Lines lines;
  lines.Row("communication of an iteration", {"MB of all", "MB sent by a rank"});
  int64_t sum = 0;
  const auto megabytes = [](int64_t bytes) { return Fixed(static_cast<double>(bytes) / 1e6, 3); };
  for (const Collective& one : plan.collectives) {
    const int64_t sent = SentBytes(one, plan.ranks);
    sum += sent;
    lines.Row(Concat(kNames[static_cast<int>(one.kind)], " of ", one.what),
              {megabytes(one.bytes), megabytes(sent)});
  }
  lines.Row("sum; as much is received", {"", megabytes(sum)});
  return lines.text();
}

}  // namespace

std::string DescribePlan(const RunPlan& plan) {
  const int64_t samples = plan.batch * plan.iter_size * plan.ranks;
  return Concat("net ", plan.net, ": ", plan.ranks, plan.ranks == 1 ? " rank" : " ranks", " of ",
                plan.threads, plan.threads == 1 ? " thread" : " threads", ", ", plan.batch,
                " samples each, iter_size ", plan.iter_size, ", global batch ", Grouped(samples), "\n",
                HeadLine(plan), "\n", MemoryLines(plan), "\n", CommunicationLines(plan));
}

std::string DescribeMostIdentities(const SolverParameter& spec, const PlanOptions& options,
                                   int64_t device_memory) {
  constexpr int64_t kMillion = 1000 * 1000;
  const auto most = [&](auto storage, auto precision) {
    PlanOptions changed = options;
    changed.storage = storage, changed.precision = precision;
    const int64_t identities = MostIdentities(spec, changed, device_memory);
    return identities == 0          ? std::string("none")
           : identities == kNoBound ? Concat("over ", RoundedDown(identities))
                                    : RoundedDown(identities);
  };
  const bool on_gpu = options.device != nullptr && options.device->is_cuda();
  const auto elsewhere = [&](auto precision) {
    PlanOptions changed = options;
    changed.storage = DistPartialFCParameter::HOST, changed.precision = precision;
    changed.classes = kMillion * changed.ranks;
    return Concat(Fixed(static_cast<double>(PlanRun(spec, changed).on_host) / 1e9, 2), " GB");
  };
  const auto f32 = DistPartialFCParameter::FP32, bf16 = DistPartialFCParameter::BF16;
  const auto memory = DistPartialFCParameter::MEMORY, file = DistPartialFCParameter::FILE,
             host = DistPartialFCParameter::HOST;
  Lines lines;
  lines.Row(Concat("most identities, ", Fixed(static_cast<double>(device_memory) / 1e9, 1), " GB per rank"),
            {"FP32", "BF16"});
  lines.Row("storage MEMORY", {most(memory, f32), most(memory, bf16)});
  lines.Row("storage HOST, as the GPU's memory bounds them", {most(host, f32), most(host, bf16)});
  if (!on_gpu) lines.Row("storage FILE, as memory bounds them", {most(file, f32), most(file, bf16)});
  lines.Row(Concat("HOST", on_gpu ? "" : " and FILE", ", of all ranks per million"),
            {elsewhere(f32), elsewhere(bf16)});
  return lines.text();
}

int64_t ParseBytes(const std::string& text) {
  static const std::pair<const char*, double> kUnits[] = {{"B", 1},        {"KB", 1e3},     {"MB", 1e6},
                                                          {"GB", 1e9},     {"TB", 1e12},    {"KiB", 0x1p10},
                                                          {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40}};
  std::istringstream in(text);
  double number = 0;
  std::string unit, rest;
  in >> number >> unit;
  const bool whole = !in.fail() && !(in >> rest) && std::isfinite(number) && number > 0;
  for (const auto& [name, bytes] : kUnits)
    if (whole && unit == name && number * bytes < 0x1p62) return static_cast<int64_t>(number * bytes);
  Fail("'", text,
       "' was given where an amount of memory such as 32GB or 24.5GiB was expected; units are B, KB, MB, "
       "GB and TB, powers of 1000, and KiB, MiB, GiB and TiB, powers of 1024");
}

}  // namespace crema
