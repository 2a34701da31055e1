// Floor 6. Failures that all ranks must share. Called by the solver's parts.
#pragma once

#include <functional>
#include <string>

#include "crema/context.hpp"

namespace crema {

// Runs `body`, which has no collective in it, on every rank, or on the root alone. Where it throws Error on
// any rank, every rank throws Error with the message of the first that did. Collective.
void AgreeOn(const Context& ctx, const std::function<void()>& body);
void AgreeOnRoot(const Context& ctx, const std::function<void()>& body);

// The root's text, on every rank. Collective.
std::string BroadcastText(const Context& ctx, const std::string& text, int root);

}  // namespace crema
