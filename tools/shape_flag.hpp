// Floor 7. Sizes given as a flag. Included by tools/*.cpp only.
#pragma once

#include <sstream>
#include <string>

#include "crema/error.hpp"
#include "crema/tensor.hpp"

namespace crema {

// "1,3,112,112" as a shape of so many axes; `expected` says in words what it should have been.
inline Shape ParseShape(const std::string& flag, const std::string& text, const std::string& expected,
                        size_t axes) {
  Shape shape;
  std::istringstream in(text);
  for (std::string size; std::getline(in, size, ',');) {
    const bool is_number =
        !size.empty() && size.size() < 10 && size.find_first_not_of("0123456789") == std::string::npos;
    shape.push_back(is_number ? std::stoll(size) : 0);
  }
  bool fits = shape.size() == axes;
  for (int64_t size : shape) fits = fits && size > 0;
  Require(fits, "--", flag, " is '", text, "' where ", expected, " were expected.");
  return shape;
}

}  // namespace crema
