module taskfleet.dev/localcluster/pause

go 1.26
