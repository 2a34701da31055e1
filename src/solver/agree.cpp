#include "solver/agree.hpp"

#include <algorithm>

namespace crema {

std::string BroadcastText(const Context& ctx, const std::string& text, int root) {
  const int64_t size =
      ctx.comm->AllGatherNumber(static_cast<int64_t>(text.size()))[static_cast<size_t>(root)];
  if (size == 0) return "";
  Tensor bytes(*ctx.device, DType::kU8, {size});
  if (ctx.comm->rank() == root) bytes.FromHost(std::vector<uint8_t>(text.begin(), text.end()));
  ctx.comm->Broadcast(&bytes, root);
  const std::vector<uint8_t> all = bytes.ToHost<uint8_t>();
  return std::string(all.begin(), all.end());
}

void AgreeOn(const Context& ctx, const std::function<void()>& body) {
  std::string message;
  bool failed = false;
  try {
    body();
  } catch (const Error& error) {
    failed = true;
    message = error.what();
  }
  const std::vector<int64_t> failures = ctx.comm->AllGatherNumber(failed ? 1 : 0);
  const auto first = std::find(failures.begin(), failures.end(), 1);
  if (first == failures.end()) return;
  throw Error(BroadcastText(ctx, message, static_cast<int>(first - failures.begin())));
}

void AgreeOnRoot(const Context& ctx, const std::function<void()>& body) {
  AgreeOn(ctx, [&] {
    if (ctx.comm->root()) body();
  });
}

}  // namespace crema
