# The program, and what `cmake --install` copies: program, libtorch's libraries, licences.
add_executable(adze ${CMAKE_SOURCE_DIR}/src/app/main.cpp)
target_link_libraries(adze PRIVATE adze_app adze_warnings)
target_compile_definitions(adze_app PRIVATE ADZE_VERSION="${PROJECT_VERSION}")
install(TARGETS adze RUNTIME DESTINATION bin)
install(PROGRAMS ${torch_runtime_libraries} DESTINATION lib/adze)
install(FILES LICENSE NOTICE DESTINATION share/doc/adze)
file(GLOB licence_folders ${ADZE_PYTHON_PACKAGES}/torch-*.dist-info/licenses
     ${ADZE_PYTHON_PACKAGES}/nvidia_cuda_*.dist-info/licenses)
foreach(folder ${licence_folders})
  string(REGEX REPLACE ".*/([^/]+)-[0-9.]+\\.dist-info/licenses" "\\1" package ${folder})
  install(DIRECTORY ${folder}/ DESTINATION share/doc/adze/${package})
endforeach()
