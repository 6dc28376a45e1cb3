module kiban.test/bundle/pause

go 1.26.0
