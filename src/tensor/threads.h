#pragma once

namespace adze::tensor {

// From here on our own kernels run on the threads of libtorch (OpenMP), as many as
// core::num_threads() says. Two pools would fight for the cores: libtorch's threads spin for a
// while after each product, and training goes from product to kernel some hundred times a step.
void use_libtorch_threads();

}  // namespace adze::tensor
