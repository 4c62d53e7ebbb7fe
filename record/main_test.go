package record_test

import "flag"

var update = flag.Bool("update", false, "write the seeds and vectors anew")
