# The Debian package, made by `./dev package` (cpack -G DEB): what is installed where, and what the maintainer scripts do.
# Its version can be given, to try an upgrade: cpack -D CPACK_PACKAGE_VERSION=…
install(FILES config/debian/copyright DESTINATION ${RR_DOC} COMPONENT package)
install(FILES config/debian/lintian-overrides DESTINATION share/lintian/overrides RENAME run-recorder COMPONENT package)
install(CODE "
  set(folder \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${RR_DOC}\")
  execute_process(COMMAND gzip -9n INPUT_FILE \"${CMAKE_SOURCE_DIR}/config/debian/changelog\"
    OUTPUT_FILE \"\${folder}/changelog.gz\" COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND gzip -9n INPUT_FILE \"${CMAKE_SOURCE_DIR}/CHANGELOG.md\"
    OUTPUT_FILE \"\${folder}/CHANGELOG.md.gz\" COMMAND_ERROR_IS_FATAL ANY)
  # The notices of the libraries that are compiled in, as their packages have them where the system is Debian's.
  file(MAKE_DIRECTORY \"\${folder}/compiled-in\")
  file(GLOB notices \"/usr/share/doc/libboost1.*-dev/copyright\" \"/usr/share/doc/nlohmann-json3-dev/copyright\"
    \"/usr/share/doc/libcli11-dev/copyright\")
  foreach(notice \${notices})
    get_filename_component(library \"\${notice}\" DIRECTORY)
    get_filename_component(library \"\${library}\" NAME)
    execute_process(COMMAND gzip -9n INPUT_FILE \"\${notice}\"
      OUTPUT_FILE \"\${folder}/compiled-in/\${library}.gz\" COMMAND_ERROR_IS_FATAL ANY)
  endforeach()
" COMPONENT package)

set(CPACK_GENERATOR DEB)
set(CPACK_SET_DESTDIR ON)
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
  OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
set(CPACK_PACKAGE_NAME run-recorder)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_CONTACT "Seed 554f6e36 maintainers <maintainers@users.noreply.r-seed-554f6e36.example>")
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "records what background jobs did, and finds those that silently died")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION "run-recorderd takes lifecycle events of background jobs over a local socket,
makes them durable, acknowledges them, and writes one row per attempt of a
run, with its history, to PostgreSQL or to an embedded SQLite.

It compares the rows that say running with what is really alive (processes,
connections, Oban's table of jobs), marks the orphaned ones stuck, and reports
why. run-recorder wraps cron jobs and timers, and shows what became of them.")
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "systemd | systemd-standalone-sysusers, tzdata")
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "postgresql, prometheus")
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA
  "${CMAKE_SOURCE_DIR}/config/debian/postinst;${CMAKE_SOURCE_DIR}/config/debian/prerm"
  "${CMAKE_SOURCE_DIR}/config/debian/postrm;${CMAKE_SOURCE_DIR}/config/debian/conffiles")
# The programs and the package's own files, nothing that other components may bring.
set(CPACK_INSTALL_CMAKE_PROJECTS "${CMAKE_BINARY_DIR};${PROJECT_NAME};ALL;/")
include(CPack)
