-- Lmod: module use PREFIX/share/modulefiles; module load marrs_dist
help([[Semi-supervised domain adaptation of image classifiers over MPI ranks.
marrs_dist --help, man marrs_dist, man marrs_dist-tutorial. Configurations: share/marrs_dist/configs]])
whatis("Name: marrs_dist")
whatis("Version: @VERSION@")
whatis("Description: peers co-trained on groups of MPI ranks, distilled into one student")
conflict("marrs_dist")

-- The folder of this file tells where it was installed, so that everything may be moved together; else PREFIX.
local here = myFileName():match("^(.*)/share/modulefiles/marrs_dist/")
local prefix = here or "@PREFIX@"
prepend_path("PATH", pathJoin(prefix, "bin"))
prepend_path("MANPATH", pathJoin(prefix, "share/man"))
