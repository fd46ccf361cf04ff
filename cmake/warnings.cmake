add_library(adze_warnings INTERFACE)
target_compile_options(adze_warnings INTERFACE -Wall -Wextra -Wshadow -Wconversion -Werror)
# Sums that must not depend on the optimiser's choice of contraction: the kernels say MulAdd where
# they mean it.
add_compile_options(-ffp-contract=off)
