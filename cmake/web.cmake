# adze_web_files(<target>): compiles the page into the target, as the table of web_files_table.h.
# web/NAME is served as /web/NAME, what Debian packages bring as /web/vendor/NAME. The source is
# written anew when one of the files changes.
set(ADZE_MARKED /usr/share/javascript/marked/marked.umd.min.js CACHE FILEPATH
    "marked for the page, from Debian's libjs-marked")
set(ADZE_DOMPURIFY /usr/share/nodejs/dompurify/dist/purify.min.js CACHE FILEPATH
    "DOMPurify for the page, from Debian's node-dompurify")

function(adze_web_files target)
  foreach(needed "${ADZE_MARKED};libjs-marked" "${ADZE_DOMPURIFY};node-dompurify")
    list(GET needed 0 file)
    list(GET needed 1 package)
    if(NOT EXISTS ${file})
      message(FATAL_ERROR "the web page needs ${file}, which Debian's package ${package} brings; "
                          "run `make deps`")
    endif()
  endforeach()
  find_package(Python3 COMPONENTS Interpreter REQUIRED)
  file(GLOB files CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/web/*)
  list(APPEND files ${CMAKE_SOURCE_DIR}/src/serve/openapi.json)
  set(pairs vendor/marked.js=${ADZE_MARKED} vendor/purify.js=${ADZE_DOMPURIFY})
  foreach(file ${files})
    cmake_path(GET file FILENAME name)
    list(APPEND pairs ${name}=${file})
  endforeach()
  set(source ${CMAKE_BINARY_DIR}/web/web_files_table.cpp)
  add_custom_command(
    OUTPUT ${source}
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/cmake/embed_web_files.py ${source} ${pairs}
    DEPENDS ${CMAKE_SOURCE_DIR}/cmake/embed_web_files.py ${files} ${ADZE_MARKED} ${ADZE_DOMPURIFY}
    COMMENT "page into ${source}" VERBATIM)
  target_sources(${target} PRIVATE ${source})
endfunction()
