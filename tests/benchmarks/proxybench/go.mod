module taskfleet.dev/proxybench

go 1.24
