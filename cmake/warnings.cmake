# GCC is the compiler whose warnings are errors; clang builds only the fuzz targets.
add_library(adze_warnings INTERFACE)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC 12 sees overlapping copies where a string is built from a literal (GCC bug 105651).
  target_compile_options(adze_warnings INTERFACE
                         $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wshadow -Wconversion -Wno-restrict
                         -Werror>)
else()
  target_compile_options(adze_warnings INTERFACE -Wall -Wextra -Wno-unknown-pragmas)
endif()
# Sums that must not depend on the optimiser's choice of contraction: the kernels say MulAdd where
# they mean it.
add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-ffp-contract=off>)
